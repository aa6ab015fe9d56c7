"""What is known of ComfyUI's samplers beforehand, by the names that KSampler lists."""

from __future__ import annotations

import math

# These add no noise of their own and take the same steps for any batch: an image is the same in each.
BATCHED = frozenset(
    [
        *("euler", "euler_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "ddim"),
        *("dpmpp_2m", "dpmpp_2m_cfg_pp", "ipndm", "ipndm_v", "deis", "uni_pc", "uni_pc_bh2"),
        *("res_multistep", "res_multistep_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp"),
    ]
)
# Evaluations of the model in a step, where it is not one.
EVALUATIONS = {
    **dict.fromkeys(("heun", "heunpp2", "exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral"), 2),
    **dict.fromkeys(("dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu"), 2),
    **dict.fromkeys(("seeds_2", "sa_solver_pece"), 2),
    "seeds_3": 3,
}


def evaluations(sampler_name: str) -> int:
    """Of the model in a step."""
    return EVALUATIONS.get(sampler_name, 1)


def is_guided(cfg: float) -> bool:
    """Whether a step evaluates the negative prompt, too."""
    return not math.isclose(cfg, 1)


def forwards_about(sampler_name: str, cfg: float, steps: int) -> int:
    """Of one image in so many steps."""
    return steps * evaluations(sampler_name) * (2 if is_guided(cfg) else 1)

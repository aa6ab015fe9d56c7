/** Adds the stylesheet at `url`, relative to the module whose import.meta.url is `base`. */
export function addStyle(url, base) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL(url, base).href;
  document.head.append(link);
}

/** What the editor says, by ComfyUI's locale. */

const WORDS = {
  en: {
    category: "category",
    add: "Add a box (Insert)",
    remove: "Delete the box (Delete)",
    undo: "Undo (Ctrl+Z)",
    redo: "Redo (Ctrl+Y)",
    text: "Show as text, to copy, paste or mend",
    noPicture: "no picture",
    connected: "connected picture",
    last: "last output",
    picture: "Picture to draw on",
    stage: "Regions: drag to draw a box; Alt: without snapping; arrow keys move, with Shift resize",
    hint: "Drag below to draw a box.",
    unnamed: "name me",
    unknown: "not in the bank",
    broken: "This text is no layout; it is kept as it is:",
  },
};

/** The words of a locale, English where there are none. */
export function words(locale) {
  return { ...WORDS.en, ...(WORDS[locale] ?? WORDS[locale?.split("-")[0]]) };
}

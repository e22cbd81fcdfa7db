// What was typed or chosen and not sent yet, kept in this browser for each account apart.

const account = () => document.querySelector(".ct-head")?.dataset.account ?? "";
/** The key of a name in this browser's storage. */
export const keyOf = (name) => `calotype-${name}:${account()}`;

/** What is kept under a name, or null. */
export function readDraft(name) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(name)));
  } catch {
    return null; // of another version, or there is no storage
  }
}

/** Keeps a value under a name; null removes it. */
export function keepDraft(name, value) {
  try {
    if (value === null) localStorage.removeItem(keyOf(name));
    else localStorage.setItem(keyOf(name), JSON.stringify(value));
  } catch {
    // there is no storage, or it is full
  }
}

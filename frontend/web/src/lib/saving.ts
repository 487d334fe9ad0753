import type { Variant } from "@lac/client";

const KEY = "lac.save-data";

/** Whether this listener would rather save data than hear everything at once: by their choice, or their browser's. */
export function savesData(): boolean {
  try {
    const chosen = localStorage.getItem(KEY);
    if (chosen !== null) return chosen === "yes";
  } catch {
    // Nothing can be remembered here.
  }
  // Not in every browser, thus not in the types (https://wicg.github.io/savedata/).
  const { connection } = navigator as { connection?: { saveData?: boolean } };
  return connection?.saveData === true;
}

export function chooseSaving(saves: boolean): void {
  try {
    localStorage.setItem(KEY, saves ? "yes" : "no");
  } catch {
    // Not remembered, then.
  }
}

export const variantFor = (saves: boolean): Variant => (saves ? "opus3" : "opus");

/** Hands `value` to the browser as a file to save. */
export function saveJson(fileName: string, value: unknown): void {
  saveBlob(fileName, new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
}

/** The same for bytes of any kind. */
export function saveBlob(fileName: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = fileName;
  document.body.append(link);
  link.click();
  link.remove();
  // Some browsers read it a little after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

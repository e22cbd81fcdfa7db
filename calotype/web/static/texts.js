// Texts in the language of the page.

const words = JSON.parse(document.getElementById("ct-texts").textContent);

/** A template in the language of the page, with its values: _("{count} photos", {count: 3}). */
export function _(template, values = {}) {
  const text = words[template] ?? template;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

/** A duration in words, as the command line has it. */
export function duration(seconds) {
  if (seconds < 90) return _("{count} s", { count: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return _("{count} min", { count: Math.round(seconds / 60) });
  return _("{count} h", { count: (seconds / 3600).toFixed(1) });
}

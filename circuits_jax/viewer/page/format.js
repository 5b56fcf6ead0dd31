// Numbers and tokens as people read them.

const MINUS = "\u2212";

/** Three significant digits; whole numbers in full; "–" for what is not there. */
function formatNumber(value, digits = 3) {
  if (value === null || value === undefined) return "\u2013";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (Number.isInteger(value)) text = size.toLocaleString("en-US");
  else if (size >= 1e6 || size < 1e-3) text = size.toExponential(digits - 1).replace("e-", "e" + MINUS).replace("e+", "e");
  else if (size >= 1000) text = Math.round(size).toLocaleString("en-US");
  else text = size.toPrecision(digits);
  return (value < 0 ? MINUS : "") + text;
}

function formatSigned(value) {
  return (value > 0 ? "+" : "") + formatNumber(value);
}

function formatPercent(share) {
  if (share === 0 || share === 1) return share * 100 + "%";
  return share < 0.001 ? "< 0.1%" : (share * 100).toFixed(share < 0.1 ? 1 : 0) + "%";
}

/** A table's cell: numbers formatted, the rest as text. */
function formatCell(value) {
  if (typeof value === "number" || value === null || value === undefined) return formatNumber(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}

// Control characters, blanks other than the space, those that change the direction or the joining of the text around them,
// and what is no character at all: half a pair, and others that XML cannot hold.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]/gu;

function showUnseen(text) {
  return text.replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** A token within running text: line ends and tabs get a sign, spaces stay. */
function tokenInText(text) {
  return showUnseen(text.replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5"));
}

/** A token standing alone, where a space must be seen too. */
function tokenAlone(text) {
  return tokenInText(text).replace(/ /g, "\u2423");
}

/** What an address gives as a place in a list, as a whole number from 0 to `last`. */
function clampIndex(text, last) {
  return Math.min(last, Math.max(0, Math.trunc(Number(text)) || 0));
}

function clip(text, length) {
  const characters = [...text]; // not UTF-16 units, of which half a character would be left
  return characters.length > length ? characters.slice(0, length - 1).join("") + "\u2026" : text;
}

/** `items` as a phrase: "a", "a and b", "a, b and c". */
function listParts(items) {
  return items.flatMap((item, i) => [i === 0 ? "" : i === items.length - 1 ? " and " : ", ", item]).slice(1);
}

/** "test/calibrated_loss" -> "test calibrated loss". */
function spaced(name) {
  return name.replace(/[_/]+/g, " ").trim();
}

// SentencePiece's byte-pair encoding, as Python runs it: spaces become U+2581, symbols stay whole, neighbours
// merge best score first (the leftmost of equals), and characters outside the vocabulary fall back to bytes.
// And tiktoken's: text is split by a pattern, and the bytes of each part merge, those of the lowest rank first.

const SPACE_MARK = "\u2581";

/** A function from text to token ids; `vocabulary` is what vocabulary.py embedded. */
function makeEncoder(vocabulary) {
  if (vocabulary.ranked) return makeRankedEncoder(vocabulary);
  const ids = new Map(vocabulary.pieces.map((piece, id) => [piece, id]).filter(([piece]) => piece !== null));
  const symbols = vocabulary.symbols.map((id) => vocabulary.pieces[id]).sort((a, b) => b.length - a.length);
  const encodePart = (text) => {
    const pieces = mergePieces(splitPieces(text.replaceAll(" ", SPACE_MARK), symbols), ids, vocabulary.scores);
    return pieces.flatMap((piece) => (ids.has(piece) ? [ids.get(piece)] : byteIds(piece, vocabulary)));
  };
  // A literal U+2581 would read as a space, so it is written as its bytes (data/tokenizer.py).
  return (text) => text.split(SPACE_MARK).flatMap((part, i) => [
    ...(i ? byteIds(SPACE_MARK, vocabulary) : []), ...encodePart(part),
  ]);
}

function bytesOf(text) {
  return [...new TextEncoder().encode(text)];
}

function byteIds(text, vocabulary) {
  return bytesOf(text).map((byte) => vocabulary.bytes[byte]);
}

/** `ranked` are the tokens in the order of ids and of merges, a character a byte. */
function makeRankedEncoder({ ranked, pattern }) {
  const ids = new Map(ranked.map((text, id) => [text, id])), scores = ranked.map((_, id) => -id);
  const parts = new RegExp(pattern, "gu");
  return (text) => (text.match(parts) ?? []).flatMap((part) => {
    const bytes = bytesOf(part).map((byte) => String.fromCharCode(byte)), whole = ids.get(bytes.join(""));
    if (whole !== undefined) return [whole];
    return mergePieces(bytes.map((byte) => ({ text: byte, frozen: false })), ids, scores).map((piece) => ids.get(piece));
  });
}

/** Characters and whole symbols (the longest that fits): [{text, frozen}]. */
function splitPieces(text, symbols) {
  const found = [];
  for (let i = 0; i < text.length; ) {
    const symbol = symbols.find((candidate) => text.startsWith(candidate, i));
    const piece = symbol ?? String.fromCodePoint(text.codePointAt(i));
    found.push({ text: piece, frozen: symbol !== undefined });
    i += piece.length;
  }
  return found;
}

function mergePieces(pieces, ids, scores) {
  const heap = makeHeap((a, b) => b.score - a.score || a.left - b.left);
  const next = pieces.map((_, i) => i + 1), before = pieces.map((_, i) => i - 1);
  const offer = (left, right) => {
    if (left < 0 || right >= pieces.length || pieces[left].frozen || pieces[right].frozen) return;
    const text = pieces[left].text + pieces[right].text;
    if (ids.has(text)) heap.push({ left, right, text, score: scores[ids.get(text)] });
  };
  for (let i = 0; i + 1 < pieces.length; i++) offer(i, i + 1);
  for (let best = heap.pop(); best; best = heap.pop()) {
    const { left, right, text } = best;
    if (!pieces[left].text || !pieces[right].text || pieces[left].text + pieces[right].text !== text) continue;
    pieces[left].text = text;
    pieces[right].text = "";
    next[left] = next[right];
    if (next[left] < pieces.length) before[next[left]] = left;
    offer(before[left], left);
    offer(left, next[left]);
  }
  return pieces.filter(({ text }) => text).map(({ text }) => text);
}

/** A binary heap: `pop` gives the item that sorts first, or undefined. */
function makeHeap(compare) {
  const items = [];
  const swap = (i, j) => ([items[i], items[j]] = [items[j], items[i]]);
  const push = (item) => {
    let i = items.push(item) - 1;
    for (let up = (i - 1) >> 1; i > 0 && compare(items[i], items[up]) < 0; i = up, up = (i - 1) >> 1) swap(i, up);
  };
  const pop = () => {
    if (!items.length) return undefined;
    swap(0, items.length - 1);
    const top = items.pop();
    for (let i = 0; ; ) {
      let first = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < items.length && compare(items[child], items[first]) < 0) first = child;
      }
      if (first === i) return top;
      swap(i, first);
      i = first;
    }
  };
  return { push, pop };
}

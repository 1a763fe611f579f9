// What two texts do not share, by words.

const MOST_WORDS = 4000; // a side

function wordsOf(text) {
  if (!window.Intl || !Intl.Segmenter) return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
  const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });
  return Array.from(segmenter.segment(text), (piece) => piece.segment);
}

// Two lists of booleans: whether each word of one and of the other is in their longest common
// subsequence. Null where there are too many.
function common(one, other) {
  if (one.length > MOST_WORDS || other.length > MOST_WORDS) return null;
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) start += 1;
  let tail = 0;
  while (tail < Math.min(one.length, other.length) - start &&
         one[one.length - 1 - tail] === other[other.length - 1 - tail]) tail += 1;
  const rows = one.length - start - tail;
  const columns = other.length - start - tail;
  const width = columns + 1;
  // best[i * width + j]: the length for what is left after i and j words.
  const best = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      best[at] = one[start + i] === other[start + j]
        ? best[at + width + 1] + 1
        : Math.max(best[at + width], best[at + 1]);
    }
  }
  const inOne = new Array(one.length).fill(true);
  const inOther = new Array(other.length).fill(true);
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    const at = i * width + j;
    if (i < rows && j < columns && one[start + i] === other[start + j]) { i += 1; j += 1; }
    else if (j >= columns || (i < rows && best[at + width] >= best[at + 1])) {
      inOne[start + i] = false;
      i += 1;
    } else {
      inOther[start + j] = false;
      j += 1;
    }
  }
  return [inOne, inOther];
}

// The words as text with <mark> around those that the other side has not.
function marked(words, shared) {
  const box = make("div", "pk-plaintext");
  box.dir = "auto";
  for (let from = 0; from < words.length;) {
    let to = from;
    while (to < words.length && shared[to] === shared[from]) to += 1;
    const text = words.slice(from, to).join("");
    box.append(shared[from] ? text : make("mark", "", text));
    from = to;
  }
  return box;
}

// Both sides marked, or null where they are too long to compare.
function compared(left, right) {
  const [one, other] = [wordsOf(left), wordsOf(right)];
  const found = common(one, other);
  return found && [marked(one, found[0]), marked(other, found[1])];
}

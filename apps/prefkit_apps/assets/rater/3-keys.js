// Which key does what. Digits go by their place on the keyboard (AZERTY types them with Shift),
// all else by what it writes; on a keyboard of other letters than ours, by place too.

const VOTES = ["1", "2", "3", "4", "5", "6", "7", "x", "i", "s"];
const DEFAULT_KEYS = {
  1: "1", 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "7", x: "x", i: "i", s: "s",
  undo: "u", flag: "f", ask: "a", reason: "r", edit: "e", diff: "d", raw: "m", fold: "p",
  guidelines: "g", history: "h", help: "?",
};
const ACTIONS = [...VOTES, ...Object.keys(DEFAULT_KEYS).filter((name) => !VOTES.includes(name))];
// What an action is called, by the name of its words.
const NAMES = {
  1: "vote_1", 2: "vote_2", 3: "vote_3", 4: "vote_4", 5: "vote_5", 6: "vote_6", 7: "vote_7",
  x: "both_bad", i: "invalid", s: "skip", undo: "undo", flag: "flag", ask: "rate",
  reason: "reason", edit: "edit", diff: "differences", raw: "source", fold: "earlier",
  guidelines: "guidelines", history: "history", help: "help",
};
const nameOf = (action) => t(NAMES[action]);

let keyOf = { ...DEFAULT_KEYS };
let actionOf = new Map();

function bindKeys(changes) {
  keyOf = { ...DEFAULT_KEYS };
  for (const [action, key] of Object.entries(changes || {})) {
    if (action in keyOf) keyOf[action] = key;
  }
  actionOf = new Map(ACTIONS.map((action) => [keyOf[action], action]));
  for (const node of all("[data-key-of]")) node.textContent = keyOf[node.dataset.keyOf];
  for (const node of all("[data-act], [data-key]")) {
    const key = keyOf[node.dataset.key || node.dataset.act];
    if (key) node.setAttribute("aria-keyshortcuts", key);
  }
}

const changedKeys = () =>
  Object.fromEntries(Object.entries(keyOf).filter(([name, key]) => DEFAULT_KEYS[name] !== key));

function nameOfKey(event) {
  if (event.key === "?") return "?"; // Shift and a digit on some keyboards
  const digit = /^Digit([0-9])$/.exec(event.code);
  if (digit) return digit[1];
  if (event.key.length !== 1 || event.key === " ") return "";
  const written = event.key.toLowerCase();
  const place = /^Key([A-Z])$/.exec(event.code);
  return place && written > "\u024f" ? place[1].toLowerCase() : written;
}

// Gives an action another key; the action that has this key already, or null where it is free.
function rebind(action, key) {
  const holder = actionOf.get(key);
  if (holder !== undefined && holder !== action) return holder;
  bindKeys({ ...changedKeys(), [action]: key });
  wish({ keys: changedKeys() });
  return null;
}

// Words go into fields; a slider or a button in focus does not stop a vote.
function isTyping(target) {
  if (!(target instanceof Element)) return false;
  // A dialog that was just closed keeps the focus for a frame or two.
  if (target.closest("dialog:not([open])")) return false;
  if (target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName)) return true;
  return target.tagName === "INPUT" && !["radio", "checkbox", "button"].includes(target.type);
}

function onKey(event) {
  // A button that Enter holds down would be pressed again on each pair that comes.
  if (event.repeat && event.target instanceof Element && event.target.closest(".pk-bar button")) {
    event.preventDefault();
  }
  if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onSubmit(event);
    return;
  }
  if (event.key === "Escape") { onEscape(event); return; }
  if (event.key === "Enter" && event.target.id === "pk-note") { event.target.blur(); return; }
  if (isTyping(event.target)) return;
  const key = nameOfKey(event);
  if (!key) return;
  const open = find("dialog[open]");
  if (open) {
    onKeyInDialog(open, key, event);
    return;
  }
  if (answerQuestion(key)) {
    event.preventDefault();
    return;
  }
  const action = actionOf.get(key);
  if (action === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  act(action, event.timeStamp);
}

// In a dialog only its own key does something: it closes it. A key that is being changed is taken.
function onKeyInDialog(open, key, event) {
  if (taking) takeNewKey(key);
  else if (actionOf.get(key) === open.dataset.panel) open.close();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

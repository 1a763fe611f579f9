// Pairs as they are drawn. A pair is made ready as soon as it comes, its images decoded, so that
// showing it is nothing but putting finished nodes in place.

const SIDES = ["prompt", "left", "right"];
let mode = "drawn"; // or "raw", or "diff"
let unfolded = false;

// A pair with its nodes, to be shown later.
function prepare(pair) {
  const item = { pair, nodes: {} };
  for (const side of SIDES) item.nodes[side] = turnsOf(pair, side);
  return item;
}

function turnsOf(pair, side) {
  const turns = pair[side];
  const withRoles = turns.length > 1 || (side === "prompt" && turns[0] && turns[0].role !== "user");
  return turns.map((turn) => {
    const box = make("div", "pk-message");
    if (withRoles) box.append(make("p", "pk-role", roleName(turn.role)));
    const body = make("div", "pk-turn");
    body.dir = "auto";
    if (turn.html) body.innerHTML = turn.html;
    else body.append(make("em", "", t("empty")));
    body.querySelectorAll("figure[data-media]").forEach((figure) => fillFigure(figure, pair));
    box.append(body);
    return box;
  });
}

const roleName = (role) =>
  (["system", "user", "assistant", "tool"].includes(role) ? t("role_" + role) : role);

function fillFigure(figure, pair) {
  const isImage = figure.dataset.kind === "image";
  const medium = make(isImage ? "img" : "audio");
  const caption = figure.textContent;
  if (isImage) medium.alt = caption;
  else { medium.controls = true; medium.preload = "metadata"; medium.setAttribute("aria-label", caption); }
  medium.addEventListener("error", () => {
    medium.remove();
    figure.querySelector("figcaption").textContent = caption + " " + t("not_shown");
  });
  medium.src = API + "media/" + encodeURIComponent(pair.task_id) + "/" + Number(figure.dataset.media);
  figure.prepend(medium);
  if (isImage) medium.decode().catch(() => {});
}

const rawOf = (turns) => turns.map((turn) => turn.raw).join("\n\n");

function plain(text) {
  const box = make("div", "pk-plaintext", text);
  box.dir = "auto";
  return box;
}

// The nodes of each side in the mode that is on.
function nodesOf(item) {
  const { pair, nodes } = item;
  if (mode === "drawn") return nodes;
  if (mode === "diff") {
    if (item.diff === undefined) item.diff = compared(rawOf(pair.left), rawOf(pair.right));
    if (item.diff === null) say(t("too_long_to_compare"), true);
    return item.diff ? { ...nodes, left: [item.diff[0]], right: [item.diff[1]] } : nodes;
  }
  item.raw = item.raw ||
    Object.fromEntries(SIDES.map((side) => [side, pair[side].map((turn) => plain(turn.raw))]));
  return item.raw;
}

function fill(item) {
  const nodes = nodesOf(item);
  for (const side of SIDES) slot(side).replaceChildren(...nodes[side]);
  fold(item);
}

// What was read before stays folded until it is asked for.
function fold(item) {
  const n = item.pair.fold;
  [...slot("prompt").children].forEach((node, place) => {
    node.hidden = !unfolded && place < n;
  });
  const button = find(".pk-unfold");
  button.hidden = n === 0;
  button.setAttribute("aria-expanded", String(unfolded));
  find(".pk-unfold span").textContent = unfolded ? t("fold") : t("unfold", { n });
}

function toggleFold() {
  unfolded = !unfolded;
  if (S.shown) fold(S.shown);
}

function toggleMode(wanted) {
  mode = mode === wanted ? "drawn" : wanted;
  for (const name of ["diff", "raw"]) {
    find('[data-act="' + name + '"]').setAttribute("aria-pressed", String(mode === name));
  }
  say(t("mode_" + mode));
  if (S.shown) { fill(S.shown); reachByTab(); }
}

// What scrolls sideways can be reached by Tab, or a keyboard could not scroll it.
function reachByTab() {
  const scrolled = all(".pk-text :is(pre, table, p)");
  const wide = scrolled.map((node) => node.scrollWidth > node.clientWidth);
  scrolled.forEach((node, place) => {
    if (wide[place]) node.tabIndex = 0;
    else node.removeAttribute("tabindex");
  });
}

// Puts a pair on the screen; from is when the key was pressed, waited whether it had to be fetched.
function paint(item, from, waited) {
  unfolded = false;
  fill(item);
  slot("prompt").scrollTop = 0;
  window.scrollTo(0, 0);
  root.dataset.task = item.pair.task_id;
  setState("painting");
  showVerdict(item.pair.key);
  delete item.painted_ms;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const now = performance.now();
    if (from) {
      item.painted_ms = Math.min(Math.round(now - from), DAY_MS);
      item.next_ms = waited ? item.painted_ms : 0;
      performance.measure("prefkit-paint", { start: from, end: now, detail: { waited } });
    }
    clock.restart();
    S.readySince = now + DWELL_MS;
    setTimeout(() => { if (S.shown === item) { setState("ready"); reachByTab(); } }, DWELL_MS);
  }));
}

// How the rater voted on a pair that is shown again.
function showVerdict(key) {
  for (const button of all(".pk-bar [data-key]")) {
    if (key) button.setAttribute("aria-pressed", String(button.dataset.key === key));
    else button.removeAttribute("aria-pressed");
  }
}

function showProgress(progress) {
  const total = progress.done + progress.left;
  const { done, skipped } = progress;
  find(".pk-count").textContent =
    t("progress", { done, total }) + (skipped ? ", " + t("progress_skipped", { skipped }) : "");
  const track = find(".pk-track");
  track.setAttribute("aria-valuemax", String(Math.max(total, 1)));
  track.setAttribute("aria-valuenow", String(done));
  find(".pk-fill").style.width = (total ? (100 * done) / total : 0) + "%";
  root.dataset.done = String(done);
  slot("done").textContent =
    done === 0 ? t("done_nothing") : t("done_counts", { n: done - skipped, skipped });
}

// How long a pair was looked at: in view, and not left alone for more than half a minute.
const IDLE_MS = 30000;
const DAY_MS = 86400000; // the server takes no longer time
const clock = {
  ms: 0,
  since: 0,
  touched: 0, // the last sign of somebody at this page
  touch() { this.tick(); this.touched = performance.now(); },
  untouched() { return performance.now() - this.touched; },
  restart() { this.ms = 0; this.since = document.hidden ? 0 : performance.now(); },
  tick() {
    const now = performance.now();
    if (this.since) this.ms += Math.min(now - this.since, IDLE_MS);
    this.since = document.hidden ? 0 : now;
  },
  read() { this.tick(); return Math.min(Math.round(this.ms), DAY_MS); },
};

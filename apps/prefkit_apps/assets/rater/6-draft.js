// What may go with a vote: how sure, which side by aspect, why, the better answer as it should be.
// All of it is optional and waits in a draft, kept in localStorage, until the one key of the vote.

const DRAFT = "prefkit.draft.";
const SURE_STEPS = 5;
const LONGEST_EDIT = 32000;
let asking = -1; // the question that the next digit answers, -1 for none
let heldVote = null; // a vote that waits for its reason

const emptyDraft = (task) => ({
  task, aspects: Object.create(null), confidence: null, rationale: "", edit: null,
  flagged: false, note: "",
});

// What was said with a vote, to be changed.
function draftOf(pair) {
  const draft = emptyDraft(pair.task_id);
  const { aspects, confidence, rationale, edit } = pair.said;
  Object.assign(draft.aspects, aspects);
  draft.confidence = confidence;
  draft.rationale = rationale || "";
  if (edit) draft.edit = { side: pair.key < "4" ? "left" : "right", text: edit };
  return draft;
}

function openDraft(item, known) {
  const task = item.pair.task_id;
  let found = known;
  if (!found) {
    try { found = JSON.parse(kept.read(DRAFT + S.me.id)); } catch { found = null; }
    if (!found || found.task !== task) found = emptyDraft(task);
    found.aspects = Object.assign(Object.create(null), found.aspects);
  }
  // What was typed for each side is kept until the vote, whether it is to go with it or not.
  found.typed = found.typed || (found.edit ? { [found.edit.side]: found.edit.text } : {});
  S.draft = found;
  asking = -1;
  heldVote = null;
  showDraft();
}

function keepDraft() {
  kept.write(DRAFT + S.me.id, JSON.stringify(S.draft));
}

// Every question in the order of the page: its name, its choices, how its answer is read and set.
function questions() {
  const found = S.me.aspects.map((aspect) => ({
    name: aspectName(aspect),
    choices: ["left", "tie", "right"].map((side) => [side, t(side)]),
    get: () => S.draft.aspects[aspect],
    set: (value) => {
      if (value === undefined) delete S.draft.aspects[aspect];
      else S.draft.aspects[aspect] = value;
    },
  }));
  if (!S.me.confidence) return found;
  const steps = Array.from({ length: SURE_STEPS }, (_, place) => place / (SURE_STEPS - 1));
  return [...found, {
    name: t("confidence"),
    choices: steps.map((share) => [share, Math.round(100 * share) + " %"]),
    get: () => (S.draft.confidence === null ? undefined : S.draft.confidence),
    set: (value) => { S.draft.confidence = value === undefined ? null : value; },
  }];
}

function buildQuestions() {
  const rows = questions().map((question, place) => {
    const row = make("div", "pk-question");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", question.name);
    row.append(make("span", "pk-question-name", question.name));
    question.choices.forEach(([, label], at) => {
      const button = make("button", "pk-choice");
      button.type = "button";
      button.dataset.question = String(place);
      button.dataset.choice = String(at);
      button.append(make("kbd", "", String(at + 1)), " " + label);
      row.append(button);
    });
    return row;
  });
  slot("questions").replaceChildren(...rows);
  find(".pk-asks").hidden = rows.length === 0;
  find('[data-act="ask"]').hidden = rows.length === 0;
}

function showDraft() {
  const list = questions();
  for (const button of all("[data-question]")) {
    const question = list[Number(button.dataset.question)];
    const [value] = question.choices[Number(button.dataset.choice)];
    button.setAttribute("aria-pressed", String(question.get() === value));
  }
  all(".pk-question").forEach((row, place) => row.classList.toggle("pk-asked", place === asking));
  const reason = find("#pk-reason");
  if (reason.value !== S.draft.rationale) reason.value = S.draft.rationale;
  find(".pk-why").hidden = !S.draft.rationale && !S.reasonOpen;
  find(".pk-send").hidden = heldVote === null;
  find('[data-act="flag"]').setAttribute("aria-pressed", String(S.draft.flagged));
  find(".pk-noting").hidden = !S.draft.flagged;
  const note = find("#pk-note");
  if (note.value !== S.draft.note) note.value = S.draft.note;
  find('[data-act="edit"]').setAttribute("aria-pressed", String(S.draft.edit !== null));
  root.dataset.asking = asking < 0 ? "" : String(asking);
}

function answer(place, at) {
  const question = questions()[place];
  const [value] = question.choices[at];
  question.set(question.get() === value ? undefined : value);
  keepDraft();
  showDraft();
}

function sayQuestion() {
  const question = questions()[asking];
  if (!question) { say(t("asked_all")); return; }
  const choices = question.choices.map(([, label], at) => at + 1 + " " + label).join(" · ");
  say(question.name + ": " + choices);
}

function startAsking() {
  const list = questions();
  if (!list.length || !S.shown) return;
  const open = list.findIndex((question) => question.get() === undefined);
  asking = open < 0 ? 0 : open;
  showDraft();
  all(".pk-question")[asking].scrollIntoView({ block: "nearest" });
  sayQuestion();
}

// While a question is asked, digits answer it and no key votes; its own key ends the asking.
function answerQuestion(key) {
  if (asking < 0) return false;
  const action = actionOf.get(key);
  const question = questions()[asking];
  const choice = question.choices[Number(key) - 1];
  if (choice) {
    question.set(choice[0]);
    keepDraft();
    asking = asking + 1 < questions().length ? asking + 1 : -1;
  } else if (action === "ask") {
    asking = -1;
    say("");
    showDraft();
    return true;
  } else if (!/^[0-9]$/.test(key) && !VOTES.includes(action)) {
    return false;
  }
  showDraft();
  sayQuestion();
  return true;
}

function openReason() {
  if (!S.shown) return;
  S.reasonOpen = true;
  showDraft();
  find("#pk-reason").focus();
}

// Whether the vote must wait for a reason to be asked.
function wantsReason(key) {
  if (heldVote || S.draft.rationale.trim() || !/^[1-7]$/.test(key)) return false;
  return Math.abs(Number(key) - 4) >= S.me.rationale_at;
}

// An edit is of one side: a vote for the other would throw it away.
function editFits(key) {
  if (!S.draft.edit) return true;
  const side = key < "4" ? "left" : "right";
  return /^[1-35-7]$/.test(key) && S.draft.edit.side === side;
}

function flag(on) {
  if (!S.shown) return;
  S.draft.flagged = on;
  const body = { id: newId(), task_id: S.shown.pair.task_id, on };
  if (on && S.draft.note.trim()) body.note = S.draft.note.trim();
  outbox.add("flag", "flags", body, {});
  keepDraft();
  showDraft();
  say(on ? t("flagged") : t("unflagged"));
  drain();
}

// What is typed next is meant for the field that opens, and must not be taken for votes.
function flagByHand() {
  if (!S.draft) return;
  flag(!S.draft.flagged);
  if (S.draft.flagged) find("#pk-note").focus();
}

function openEdit() {
  if (!S.shown) return;
  const { edit, typed } = S.draft;
  chooseEditSide(edit ? edit.side : Object.keys(typed).at(-1) || "left");
  panel("edit").showModal();
  find("#pk-edit").focus();
}

const editSide = () => find('[name="pk-edit-side"]:checked').value;
// As a field gives it back: with line ends of one kind.
const textOf = (side) => rawOf(S.shown.pair[side]).replace(/\r\n?/g, "\n");

function chooseEditSide(side) {
  const { typed } = S.draft;
  for (const input of all('[name="pk-edit-side"]')) input.checked = input.value === side;
  const field = find("#pk-edit");
  field.value = typed[side] === undefined ? textOf(side) : typed[side];
  field.setCustomValidity("");
  field.setSelectionRange(0, 0);
  field.scrollTop = 0;
}

function keepEdit() {
  const side = editSide();
  const field = find("#pk-edit");
  const text = field.value;
  const isSame = text.trim() === "" || text === textOf(side);
  if (!isSame && text.length > LONGEST_EDIT) {
    // The field lets nobody type more, but the answer itself may be longer.
    field.setCustomValidity(t("edit_too_long", { n: LONGEST_EDIT }));
    field.reportValidity();
    return;
  }
  if (isSame) delete S.draft.typed[side];
  S.draft.edit = isSame ? null : { side, text };
  keepDraft();
  showDraft();
  find('[data-panel="edit"]').close();
  say(isSame ? t("edit_none") : t("edit_kept", { side: t(side) }));
}

// What goes with the vote.
function extras() {
  const { aspects, confidence, rationale, edit } = S.draft;
  const found = {};
  if (Object.keys(aspects).length) found.aspects = aspects;
  if (confidence !== null) found.confidence = confidence;
  if (rationale.trim()) found.rationale = rationale.trim();
  if (edit) found.edit = edit.text;
  return found;
}

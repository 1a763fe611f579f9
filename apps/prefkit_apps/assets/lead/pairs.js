// Pairs

function html(text, name) {
  const made = make("div", { class: name, tabindex: "0", role: "group", dir: "auto" });
  made.innerHTML = text;
  return made;
}

// taskId: the case under which a reviewer was shown the pair; for a lead, its comparison's id.
function turns(list, label, taskId) {
  const made = make("div", { class: "pl-text", tabindex: "0", role: "group", "aria-label": label });
  for (const turn of list) {
    if (list.length > 1) made.append(make("p", { class: "pl-role" }, turn.role));
    const body = make("div", { dir: "auto" });
    body.innerHTML = turn.html || "<p><em>(empty)</em></p>";
    body.querySelectorAll("figure[data-media]").forEach((figure) => fillFigure(figure, taskId));
    made.append(body);
  }
  return made;
}

function fillFigure(figure, taskId) {
  const isImage = figure.dataset.kind === "image";
  const caption = figure.textContent;
  const medium = make(isImage ? "img" : "audio", isImage ? { alt: caption } : { controls: true, "aria-label": caption });
  medium.addEventListener("error", () => medium.remove());
  medium.src = API + "media/" + encodeURIComponent(taskId) + "/" + Number(figure.dataset.media);
  figure.prepend(medium);
}

function pairView(found, left, right) {
  return make("div", { class: "pl-pair" },
    make("section", { class: "pl-prompt" }, make("h3", {}, "Prompt"), turns(found.prompt, "Prompt", found.task_id)),
    make("section", { class: "pl-left" }, make("h3", {}, left), turns(found.left, left, found.task_id)),
    make("section", { class: "pl-right" }, make("h3", {}, right), turns(found.right, right, found.task_id)));
}

function said(vote, leftSlot) {
  const how = ["", " slightly", "", " much"];
  const side = { a: leftSlot === "a" ? "left" : "right", b: leftSlot === "b" ? "left" : "right" }[vote.choice];
  if (side) return side + " is" + (how[vote.strength] || "") + " better";
  return { tie: "tie", both_bad: "both bad", invalid: "cannot be judged", skip: "skipped", withdrawn: "taken back" }[vote.choice] || vote.kind;
}

function voteTable(caption, votes, leftSlot) {
  const names = Object.fromEntries(reasons.map((each) => [each.name, each.says]));
  return table(caption, ["who", "what", "when", "task", "words", "reasons"], votes.map((vote) => [
    vote.who + (vote.machine ? " (machine)" : ""),
    (vote.choice ? said(vote, leftSlot) : vote.kind) + (vote.choice && !vote.stands ? " (replaced)" : "") + (vote.late ? ", late" : ""),
    vote.at.slice(0, 16).replace("T", " "), vote.task, vote.rationale || vote.note || "–",
    (vote.reasons || []).map((name) => names[name] || name).join("; ") || "–"]));
}

const VERDICTS = [["1", "Left is much better"], ["2", "Left is better"], ["3", "Left is slightly better"], ["4", "Tie"],
  ["5", "Right is slightly better"], ["6", "Right is better"], ["7", "Right is much better"], ["x", "Both bad"], ["i", "Cannot be judged"]];

function option(type, group, value, label) {
  return make("label", {}, make("input", { type: type, name: group, value: value }), label);
}

async function openCase(each) {
  const into = panel("disputes");
  try {
    const found = await call("disputes/" + each.comparison_id + "/open", {});
    const title = make("h2", { tabindex: "-1" }, found.decided ? "A pair you decided" : "Which answer is better?");
    const back = make("button", { type: "button", class: "pl-plain", onclick: () => draw("disputes", each.n_adjudicated > 0, 0) }, "Back to the list");
    const rest = make("div", { "data-slot": "case" });
    into.replaceChildren(title, pairView(found, "Left", "Right"), rest, make("div", { class: "pl-row" }, back));
    title.focus();
    if (found.decided) reveal(rest, each.comparison_id, found, await call("disputes/" + each.comparison_id));
    else rest.append(caseForm(rest, each.comparison_id, found));
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function caseForm(rest, comparisonId, found) {
  const started = performance.now();
  const id = newId();
  const kinds = [...new Set(reasons.map((reason) => reason.kind))];
  const why = make("fieldset", {}, make("legend", {}, "Why would people disagree? (any number)"), kinds.map((kind) =>
    make("div", { class: "pl-options" }, reasons.filter((reason) => reason.kind === kind).map((reason) => option("checkbox", "reason", reason.name, reason.says)))));
  const words = make("textarea", { id: "pl-words", rows: "3", maxlength: "4000" });
  const send = make("button", { type: "submit", class: "pl-main" }, "Save the decision");
  const form = make("form", { class: "pl-decide" },
    make("fieldset", {}, make("legend", {}, "Your verdict"), make("div", { class: "pl-options" }, VERDICTS.map(([key, label]) => option("radio", "key", key, label)))),
    why, make("label", { class: "pl-field", for: "pl-words" }, "In your words (optional)"), words, make("div", { class: "pl-row" }, send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = form.querySelector("input[name=key]:checked");
    if (!key) { say("Choose a verdict first.", true); return; }
    send.disabled = true;
    const body = { id: id, token: found.token, key: key.value, rationale: words.value.trim() || null,
      reasons: [...form.querySelectorAll("input[name=reason]:checked")].map((box) => box.value),
      active_ms: Math.min(Math.round(performance.now() - started), 86400000) };
    try {
      const votes = await call("disputes/" + comparisonId + "/decide", body);
      say("Saved.");
      reveal(rest, comparisonId, found, votes);
    } catch (error) {
      send.disabled = false;
      say(error.message, true);
    }
  });
  return form;
}

function reveal(rest, comparisonId, found, votes) {
  const title = make("h2", { tabindex: "-1" }, "What the others said");
  rest.replaceChildren(title, voteTable("Votes on this pair", votes.votes, found.left_slot));
  if (isLead) rest.append(exampleForm(comparisonId, votes.votes));
  title.focus();
}

function exampleForm(comparisonId, votes) {
  const mine = votes.find((vote) => vote.who === "you" && vote.task === "adjudicate");
  const words = make("textarea", { id: "pl-example", rows: "3", maxlength: "2000" });
  words.value = (mine && mine.rationale) || "";
  const send = make("button", { type: "submit", class: "pl-plain" }, "Make this an example in the guidelines");
  const form = make("form", { class: "pl-example" }, make("label", { class: "pl-field", for: "pl-example" }, "What the guidelines should say of it"), words, make("div", { class: "pl-row" }, send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const after = await call("lead/examples", { comparison_id: comparisonId, note: words.value.trim() });
      say("The guidelines are version " + after.version + " now, with this example.");
    } catch (error) {
      send.disabled = false;
      say(error.message, true);
    }
  });
  return form;
}

// Search

async function lookFor(results, words, before) {
  if (!words.trim()) { say("Say what to look for.", true); return; }
  say("Searching…");
  try {
    const found = await call("lead/search?q=" + encodeURIComponent(words) + (before === null ? "" : "&before=" + before));
    if (before === null) results.replaceChildren(make("ul", { class: "pl-list" }));
    const list = results.querySelector("ul");
    results.querySelector(".pl-more")?.remove();
    for (const [rater, name] of found.raters) {
      list.append(make("li", {}, make("span", { class: "pl-grow" }, make("b", {}, name || "erased person"), " – a person, " + rater)));
    }
    for (const hit of found.hits) {
      list.append(make("li", {}, make("span", { class: "pl-grow" }, make("b", {}, hit.places.join(", ")), " " + hit.excerpt),
        make("button", { type: "button", class: "pl-plain", onclick: () => openPair(results, hit.comparison_id, words) }, "Open")));
    }
    if (found.next !== null) {
      results.append(make("div", { class: "pl-row pl-more" }, make("button", { type: "button", class: "pl-plain", onclick: () => lookFor(results, words, found.next) }, "Search on")));
    }
    const n = list.children.length;
    say(n + (n === 1 ? " place" : " places") + (found.next === null ? "." : " so far."));
  } catch (error) {
    say(error.message, true);
  }
}

async function openPair(results, comparisonId, words) {
  try {
    const found = await call("lead/comparisons/" + comparisonId);
    const title = make("h2", { tabindex: "-1" }, "Pair " + comparisonId);
    const tags = Object.entries(found.tags).map(([name, value]) => name + ": " + value).join(", ");
    results.replaceChildren(title, note("origin " + (found.origin || "–") + (tags ? "; " + tags : "")),
      pairView({ ...found, task_id: comparisonId }, "a: " + found.model_a, "b: " + found.model_b),
      heading("What happened"), voteTable("History of this pair", found.history, found.left_slot),
      note("Left is a. Whoever has seen this is no longer blind: let somebody else decide it."),
      make("div", { class: "pl-row" }, make("button", { type: "button", class: "pl-plain", onclick: () => lookFor(results, words, null) }, "Back to the results")));
    title.focus();
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

// Tabs

const KEPT = "prefkit-lead-tab"; // not in the address: Gradio writes that anew when it starts

async function draw(name, ...rest) {
  shown = name;
  for (const tab of tabs) {
    const own = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(own));
    tab.tabIndex = own ? 0 : -1;
    panel(tab.dataset.tab).hidden = !own;
  }
  sessionStorage.setItem(KEPT, name);
  root.dataset.state = "loading";
  say("Loading…");
  try {
    await PANELS[name](panel(name), ...rest);
    if (shown === name) say("");
  } catch (error) {
    if (shown === name) say(error.message, true);
  }
  if (shown === name) root.dataset.state = name;
}

function onKey(event) {
  const at = tabs.indexOf(event.target);
  const seen = tabs.filter((tab) => !tab.hidden);
  if (at < 0 || !["ArrowRight", "ArrowLeft", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  const here = seen.indexOf(event.target);
  const to = { ArrowRight: (here + 1) % seen.length, ArrowLeft: (here + seen.length - 1) % seen.length, Home: 0, End: seen.length - 1 }[event.key];
  seen[to].focus();
  draw(seen[to].dataset.tab);
}

async function start() {
  document.title = "prefkit: the labelling so far";
  root.addEventListener("keydown", onKey, listening);
  for (const tab of tabs) tab.addEventListener("click", () => draw(tab.dataset.tab), listening);
  try {
    const found = await call("disputes");
    isLead = found.lead;
    reasons = found.reasons;
  } catch (error) {
    say(error.message, true);
    root.dataset.state = "failed";
    return;
  }
  for (const tab of tabs) if (!isLead && "lead" in tab.dataset) tab.hidden = true;
  const asked = sessionStorage.getItem(KEPT);
  const wanted = tabs.find((tab) => tab.dataset.tab === asked && !tab.hidden);
  draw(wanted ? asked : isLead ? "progress" : "disputes");
}

start();

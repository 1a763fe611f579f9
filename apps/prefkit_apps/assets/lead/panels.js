// Panels: each draws what the server says into its section

const PANELS = {
  async progress(into) {
    const found = await call("lead/overview");
    const { progress, forecast, days } = found;
    const done = progress.wanted ? progress.done / progress.wanted : 0;
    const tiles = [
      ["votes", count(progress.done) + " of " + count(progress.wanted), percent(done)],
      ["comparisons with all their votes", count(progress.n_full) + " of " + count(progress.n_tasks), ""],
    ];
    if (forecast) {
      const span = forecast.late ? forecast.early + " to " + forecast.late : "no end is certain at this pace";
      const pace = forecast.low === null ? "from one day" : plain2(forecast.low) + " to " + plain2(forecast.high) + ", from " + forecast.n_days + " days";
      tiles.push(["votes on a day of work", plain2(forecast.per_day), pace], ["likely done", forecast.likely || "in ten years or later", span]);
    }
    into.replaceChildren(heading("Progress"), facts(tiles), figure(found.plot) || note("No person has voted yet."),
      days.length ? make("details", {}, make("summary", {}, "By day"),
        table("Votes by day", ["day (UTC)", "votes", "raters"], days.map((day) => [day.day, day.n_votes, day.n_raters]))) : "");
  },

  async agreement(into) {
    const found = await call("lead/agreement");
    const all = found.overall;
    const names = { alpha: "Krippendorff’s α, ordinal", kappa: "κ, quadratic", ac1: "Gwet’s AC1" };
    const tiles = Object.entries(names).map(([key, name]) => [name,
      all[key] ? plain2(all[key].value) : "–",
      all[key] ? (all[key].low === null ? "too few comparisons for an interval" : plain2(all[key].low) + " to " + plain2(all[key].high)) : all.why[key]]);
    const scale = all.scale === "graded" ? "how much better a side is (−3 to 3)" : "the side alone, because some votes have no strength";
    const row = ([name, group]) => [name, group.n_comparisons, group.n_votes, estimate(group.alpha, plain2), estimate(group.kappa, plain2), estimate(group.ac1, plain2)];
    const columns = ["", "comparisons", "votes", "α", "κ", "AC1"];
    const slices = found.slices.flatMap((slice) => [
      heading("By " + slice.by), figure(found.plots[slice.by]),
      table("Agreement by " + slice.by, [slice.by, ...columns.slice(1)], Object.entries(slice.groups).map(row)),
      slice.left_out ? note(count(slice.left_out) + " smaller groups are not shown.") : "",
    ]);
    const weeks = Object.entries(found.weeks);
    into.replaceChildren(heading("Agreement"), facts(tiles),
      note("Of " + count(all.n_votes) + " votes of people on " + count(all.n_comparisons) + " comparisons with two votes or more, by " + scale + ". 95 % intervals, comparisons resampled."),
      ...(weeks.length ? [heading("Over time"), figure(found.plots.weeks), table("Agreement by week", ["week of", ...columns.slice(1)], weeks.map(row)),
        note("A comparison counts in the week of its last vote.")] : []),
      ...slices);
  },

  async bias(into) {
    const found = await call("lead/bias");
    const odds = (each) => (each.odds ? "× " + estimate(each.odds, plain2) : "–");
    into.replaceChildren(heading("Bias"), note("What the chosen answers have in common. Only the left side is drawn by lot: a longer answer may win because it is better. Odds hold the other pulls equal; for length they are for each doubling."),
      figure(found.plot) || note("No person has chosen a side yet."),
      table("Biases", ["of the votes", "share", "votes", "comparisons", "odds"],
        found.rows.map((each) => [each.about, estimate(each.share, percent), each.n_votes, each.n_comparisons, odds(each)])),
      ...(found.speed_plot ? [heading("Quick votes"), note("Fifths of the votes by their time in view, quickest first. Hard pairs take long and are agreed on less; a fall at the quick end is haste."), figure(found.speed_plot)] : []));
  },

  async raters(into) {
    const found = await call("lead/raters");
    const words = { gold: "gold missed", repeats: "contradicts themselves", fast: "very fast", constant: "always the same key" };
    const rows = found.rows.map(({ facts: who, quality }) => {
      const name = who.name || "erased person " + who.rater;
      const flags = quality ? quality.flags.map((flag) => words[flag] || flag).join(", ") : "";
      return [name, flags ? make("span", { class: "pl-warn" }, flags) : "–", who.role || "–", who.n_votes,
        quality ? share(quality.agreement) : "–", quality ? share(quality.gold) : "–",
        quality ? share(quality.repeats) : "–", quality ? share(quality.left) : "–",
        quality && quality.median_ms !== null ? (quality.median_ms / 1000).toFixed(1) + " s" : "–",
        who.n_late, who.n_skipped, who.n_flags];
    });
    into.replaceChildren(heading("Raters"), note("A word beside a name is a reason to look, not a verdict: no vote is left out for it."),
      figure(found.plot) || "",
      table("Raters", ["name", "look at", "role", "votes", "as most others", "gold right", "same again", "left", "median time", "late", "skipped", "flagged"], rows));
  },

  async disputes(into, decided, page) {
    const found = await call("disputes?decided=" + Boolean(decided) + "&page=" + (page || 0));
    const go = (which, to) => () => draw("disputes", which, to);
    const choose = make("div", { class: "pl-row" },
      make("button", { type: "button", class: "pl-plain", "aria-pressed": String(!decided), onclick: go(false, 0) }, "To decide"),
      make("button", { type: "button", class: "pl-plain", "aria-pressed": String(Boolean(decided)), onclick: go(true, 0) }, "Decided"));
    const rows = found.rows.map((each) => {
      const flags = each.n_flags ? ", flagged by " + each.n_flags : "";
      const action = each.voted && !each.mine
        ? make("span", { class: "pl-note" }, "you voted on it: another reviewer decides")
        : make("button", { type: "button", class: "pl-plain", onclick: () => openCase(each) }, each.mine ? "Look at it" : "Decide");
      return make("li", {}, make("span", { class: "pl-grow" },
        make("b", { class: "pl-about", dir: "auto" }, each.about || "(a prompt without words)"),
        percent(each.disagreement) + " of the pairs of " + each.n_votes + " votes differ" + flags), action);
    });
    const pages = Math.max(1, Math.ceil(found.total / found.of));
    const turn = pages > 1 ? make("div", { class: "pl-row" },
      make("button", { type: "button", class: "pl-plain", disabled: found.page === 0, onclick: go(decided, found.page - 1) }, "Previous page"),
      "page " + (found.page + 1) + " of " + pages,
      make("button", { type: "button", class: "pl-plain", disabled: found.page + 1 >= pages, onclick: go(decided, found.page + 1) }, "Next page")) : "";
    into.replaceChildren(heading("Disputes"),
      note(count(found.total) + (decided ? " decided." : " pairs on which people disagree, or that one of them flagged.") + " You see the others’ votes after your own is saved."),
      choose, rows.length ? make("ul", { class: "pl-list" }, rows) : note("There is nothing here."), turn);
  },

  async search(into) {
    if (into.firstChild) return;
    const field = make("input", { type: "search", id: "pl-q", maxlength: "200", autocomplete: "off" });
    const results = make("div", { "data-slot": "results" });
    const form = make("form", { class: "pl-search", role: "search" },
      make("div", {}, make("label", { class: "pl-field", for: "pl-q" }, "Words in prompts, answers, tags, models, reasons and notes; names and ids of people, pairs and votes"), field),
      make("button", { type: "submit", class: "pl-main" }, "Search"));
    form.addEventListener("submit", (event) => { event.preventDefault(); lookFor(results, field.value, null); });
    into.replaceChildren(heading("Search"), form, results);
  },

  async guidelines(into) {
    const found = await call("lead/guidelines");
    into.replaceChildren(heading("Guidelines"), note("Version " + found.version + (found.version === found.base ? ", as in prefkit.yaml." : ": the text in prefkit.yaml and the examples that were added.")), html(found.html, "pl-text pl-card"));
  },

  async export(into) {
    const found = await call("lead/exports");
    const rows = found.rows.map((each) => make("li", {}, make("span", { class: "pl-grow" }, make("b", {}, each.what), " – " + each.about),
      make("a", { href: API + "lead/export/" + each.what, download: true, "aria-label": "Download " + each.what }, "Download")));
    into.replaceChildren(heading("Export"), note("Raters are ids in every file. prefkit export writes the same and more."), make("ul", { class: "pl-list" }, rows));
  },
};

// The prompt bench as seen: choose or type a prompt, read the answers, see every token's value of the chosen node.

/** Builds the bench once per circuit: {element, show(now, live)}. */
function benchView(bench, state) {
  const { circuit } = bench, { prompts } = circuit.evidence;
  const words = (tokens) => tokens.map((token) => pieceOf(circuit, token)).join("");
  const option = (number, side) => h("option", { value: number + "AB"[side] },
    `${number + 1}${"AB"[side]}  \u2026${clip(tokenInText(words(prompts[number].tokens[side]).slice(-44)), 46)}`);
  const select = h("select", { "aria-label": "Task prompt", onchange: () => state.go({ prompt: select.value, text: "", at: "" }) },
    prompts.flatMap((_, number) => [option(number, 0), option(number, 1)]));
  const typed = h("textarea", {
    rows: 2, spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": "Prompt",
    placeholder: "Type any Python", disabled: !bench.encode || !bench.network,
    oninput: () => state.go({ text: typed.value, at: "" }, { replace: true }),
    onblur: () => { if (!typed.value) typed.value = typed.dataset.text; },
  });
  const parts = {
    select, typed, strip: h("div", { class: "strip text", role: "group", "aria-label": "Tokens of the prompt; press one to choose its position" }),
    answers: h("div", { class: "bench-answers", "aria-live": "polite" }), held: h("p", { class: "held" }),
    problem: h("p", { class: "problem", role: "status" }), notes: h("p", { class: "quiet agreement" }, benchNote(bench)),
  };
  const element = h("section", { class: "bench", "aria-label": "Prompt bench" },
    h("div", { class: "bench-head" }, h("h3", {}, "Prompt bench"), select),
    typed, parts.problem, parts.strip, parts.answers, parts.held, parts.notes);
  if (bench.network) setTimeout(() => showAgreement(bench, parts.notes), 60);
  return { element, show: (now, live) => showBench(bench, state, parts, now, live) };
}

function benchNote({ network, circuit }) {
  return network ? "The circuit runs in this page; it is being compared with Python…" :
    `The circuit does not run in this page: ${circuit.evidence.no_network}. Recorded values are shown.`;
}

function showAgreement(bench, element) {
  const { worst, prompts, ties } = checkAgreement(bench);
  element.dataset.worst = worst;
  element.dataset.prompts = prompts;
  element.textContent = `The circuit runs in this page; on ${prompts - ties} prompts its logits are within ${formatNumber(worst, 2)} of Python’s` +
    (ties ? `, ${ties} more lie on a near-tie of AbsTopK.` : ".") +
    (bench.encode ? "" : " Prompts cannot be typed: the model’s tokenizer does not run here.");
}

/** `live` is {prompt, run, plain: the run without held nodes, overrides, at}. */
function showBench(bench, state, parts, now, live) {
  const { circuit } = bench, { prompt } = live;
  const text = prompt.typed ? now.text : textOf(circuit, prompt.tokens);
  parts.typed.dataset.text = text;
  const emptied = parts.typed === document.activeElement && !parts.typed.value; // by hand: the next key begins anew
  if (parts.typed.value !== text && !emptied) parts.typed.value = text;
  parts.typed.rows = Math.min(6, Math.max(2, text.split("\n").length));
  parts.select.value = prompt.number + "AB"[prompt.side ?? 0];
  parts.select.classList.toggle("aside", prompt.typed);
  replaceContent(parts.strip, tokenStrip(circuit, state, now, live));
  replaceContent(parts.answers, answerBars(circuit, live));
  replaceContent(parts.held, heldNodes(circuit, state, live.overrides));
  parts.held.hidden = !live.overrides.size;
  parts.problem.textContent = prompt.problem ?? (prompt.tokens.length ? "" : "Type a prompt, or choose one above.");
}

/** The text of tokens, of which some may be single bytes of a character. */
function textOf(circuit, tokens) {
  const ranked = vocabularyOf(circuit)?.ranked;
  const bytes = tokens.flatMap((token) => {
    if (ranked?.[token]) return [...ranked[token]].map((letter) => letter.charCodeAt(0));
    const piece = pieceOf(circuit, token), byte = /^\\x([0-9a-f]{2})$/.exec(piece);
    return byte ? [parseInt(byte[1], 16)] : bytesOf(piece);
  });
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

function tokenStrip(circuit, state, now, { prompt, run, at, vertex }) {
  const place = vertex?.kind === "node" ? vertex.place : null;
  const recorded = place !== null && !prompt.typed && !run ? recordedValues(circuit, place, prompt.number, prompt.side) : null;
  const scale = place === null ? 1 : circuit.evidence.nodes[place].scale;
  const other = prompt.typed ? null : circuit.evidence.prompts[prompt.number].tokens[1 - prompt.side];
  return prompt.tokens.map((token, t) => {
    const value = place === null ? null : run ? run.values[t][place] : recorded?.[t] ?? null;
    const kind = (other && other[t] !== token ? " differs" : "") + (t === at ? " chosen" : "");
    const span = tokenSpan(pieceOf(circuit, token), value, scale, kind);
    span.setAttribute("role", "button");
    span.setAttribute("aria-label", tokenAlone(pieceOf(circuit, token))); // a blank has no name of its own
    span.dataset.token = token;
    span.setAttribute("tabindex", "0");
    span.setAttribute("aria-pressed", String(t === at));
    const choose = () => state.go({ at: t === prompt.tokens.length - 1 ? "" : String(t) }, { replace: true });
    span.addEventListener("click", choose);
    span.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
    return span;
  });
}

/** The circuit's logits of the prompt's two answers, live or as recorded; null where neither is known. */
function answerLogits(circuit, { prompt, run }) {
  if (run) return prompt.answers.map((answer) => run.logits.get(answer));
  return prompt.typed ? null : circuit.evidence.prompts[prompt.number].circuit[prompt.side];
}

/** A row an answer: its share against the other's, calibrated beside it, and the full model's where recorded. */
function answerBars(circuit, live) {
  const { prompt, plain, overrides } = live, logits = answerLogits(circuit, live);
  if (!logits) return h("p", { class: "quiet" }, prompt.tokens.length ? "No answer: the circuit does not run in this page." : "");
  const shares = answerShares(circuit, logits);
  const before = overrides.size && plain ? answerShares(circuit, prompt.answers.map((answer) => plain.logits.get(answer))) : null;
  const full = prompt.typed ? null : answerShares(circuit, circuit.evidence.prompts[prompt.number].full[prompt.side]);
  const of = (share, side) => formatPercent(side ? 1 - share : share);
  const left = (share, side) => (100 * (side ? 1 - share : share)).toFixed(1) + "%";
  const row = (answer, side) => h("tr", { class: "answer-bar" + (prompt.side === side ? " right" : ""), "data-answer": answer, "data-logit": logits[side], title: `logit ${formatSigned(logits[side])}` },
    h("th", { scope: "row", class: "answer-token mono" }, clip(tokenAlone(pieceOf(circuit, answer)), 10), prompt.side === side ? h("span", { class: "tick", title: "Right answer" }, " \u2713") : null),
    h("td", {}, h("span", { class: "track" }, h("span", { class: "fill", style: `width:${left(shares.raw, side)}` }),
      before ? h("span", { class: "before", style: `left:${left(before.raw, side)}`, title: "Without held nodes" }) : null)),
    h("td", {}, h("b", {}, of(shares.raw, side))), h("td", {}, of(shares.calibrated, side)), h("td", {}, full ? of(full.raw, side) : "\u2013"));
  const head = ["answer", "circuit", "", "calibrated", "full model"].map((name) => h("th", { scope: "col" }, name));
  return h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, prompt.answers.map(row)));
}

function heldNodes(circuit, state, overrides) {
  const without = (place) => formatOverrides(circuit, new Map([...overrides].filter(([other]) => other !== place)));
  return ["Held: ", [...overrides].map(([place, { value, at }]) => h("span", { class: "chip" },
    h("a", { class: "mono", href: state.href({ node: nodeId(circuit, place) }) }, nodeId(circuit, place)),
    ` = ${formatNumber(value)}${at === null ? "" : ` at token ${at + 1}`} `,
    h("button", { type: "button", "aria-label": "Release " + nodeId(circuit, place), onclick: () => state.go({ set: without(place) }) }, "\u00d7"))),
  h("button", { type: "button", onclick: () => state.go({ set: "" }) }, "release all")];
}

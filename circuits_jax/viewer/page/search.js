// The search box: nodes by name, alias, note, description, answer or word.  "/" goes to it.

const MAX_FOUND = 12;

/** What can be found in a circuit: [{id, name, text}]. */
function searchEntries(circuit, notes) {
  const nodes = circuit.nodes.map(([site, index], place) => {
    const { layer, location } = splitSite(site, circuit.model);
    const head = HEAD_LOCATIONS.includes(location) ? Math.floor(index / circuit.model.d_head) : null;
    const id = `${site}.${index}`;
    const said = [showUnseen(notes?.[id] ?? ""), descriptionWords(circuit, place)].filter(Boolean).join("; ");
    const figures = descriptionFigures(circuit, place)?.words;
    return { id, name: id, said, figures, text: [id, said, ...aliasesOf(circuit, { layer, location, index, site, head })].join(" ").toLowerCase() };
  });
  const answers = drawnAnswers(circuit).map(([token]) => {
    const name = "answer " + tokenAlone(pieceOf(circuit, token));
    return { id: "answer." + token, name, said: "", text: name.toLowerCase() };
  });
  const ownWords = circuit.nodes.length <= MAX_DRAWN; // else one box stands for them all
  const words = (ownWords ? Object.entries(circuit.evidence.words) : []).map(([channel, { top }]) => {
    const said = top.map(([token]) => tokenAlone(pieceOf(circuit, token))).join(" ");
    const name = `token embedding, channel ${channel}`;
    return { id: "embedding." + channel, name, said: clip(said, 60), text: (name + " " + said).toLowerCase() };
  });
  return [...nodes, ...answers, ...words];
}

/** Those that hold every word of `query`; names that begin with it come first. */
function findEntries(entries, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const place = ({ name }) => (name.toLowerCase().startsWith(words[0]) ? 0 : name.toLowerCase().includes(words[0]) ? 1 : 2);
  return entries.filter(({ text }) => words.every((word) => text.includes(word))).sort(byKeys(place)).slice(0, MAX_FOUND);
}

/** A combobox; `entries()` are searched, `choose(id)` is called. */
function searchBox(entries, choose) {
  const list = h("ul", { class: "found", role: "listbox", id: "found", hidden: true, "aria-label": "Found" });
  const field = h("input", {
    type: "search", id: "search", role: "combobox", placeholder: "Search nodes  /", "aria-label": "Search nodes", "aria-controls": "found",
    "aria-expanded": "false", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
  });
  let found = [], at = 0;
  const show = () => {
    found = findEntries(entries(), field.value);
    at = Math.min(at, Math.max(0, found.length - 1));
    list.hidden = !field.value.trim();
    field.setAttribute("aria-expanded", String(!list.hidden));
    field.setAttribute("aria-activedescendant", found.length ? "found-" + at : "");
    replaceContent(list, found.length ? found.map(({ id, name, said, figures }, i) =>
      h("li", { role: "option", id: "found-" + i, "aria-selected": String(i === at), onpointerdown: (event) => { event.preventDefault(); take(id); } },
        h("span", { class: "mono" }, name), said ? h("span", { class: "quiet" }, clip(said, 70) + (figures ? ` (${figures})` : "")) : null)) :
      h("li", { class: "quiet" }, "nothing found"));
  };
  const close = () => { list.hidden = true; field.setAttribute("aria-expanded", "false"); };
  const take = (id) => { field.value = ""; close(); field.blur(); choose(id); };
  field.addEventListener("input", () => { at = 0; show(); });
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") at = Math.min(at + 1, found.length - 1);
    else if (event.key === "ArrowUp") at = Math.max(at - 1, 0);
    else if (event.key === "Enter" && found.length) return take(found[at].id);
    else if (event.key === "Escape") { field.value = ""; close(); field.blur(); event.stopPropagation(); return undefined; }
    else return undefined;
    event.preventDefault();
    return show();
  });
  return h("div", { class: "search" }, field, list);
}

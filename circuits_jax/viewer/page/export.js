// The graph as a picture: SVG with all its style inlined, or PNG made from that.

const INLINED = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity",
  "font-family", "font-size", "font-weight", "text-anchor", "paint-order", "visibility", "display", "transform",
];

/** The graph as it is shown, standing alone: {text, width, height}. */
function exportSvg(svg) {
  const { width, height } = svg.getBoundingClientRect();
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, i) => {
    const style = getComputedStyle(original);
    copies[i].setAttribute("style", INLINED.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
    for (const name of ["tabindex", "role", "aria-pressed", "data-id", "class"]) copies[i].removeAttribute(name);
  });
  for (const [name, value] of [["xmlns", SVG], ["width", width], ["height", height], ["viewBox", `0 0 ${width} ${height}`]]) copy.setAttribute(name, value);
  const ground = s("rect", { width: "100%", height: "100%", fill: getComputedStyle(svg).getPropertyValue("--card") });
  ground.setAttribute("style", `fill:${getComputedStyle(svg.parentElement).backgroundColor}`);
  copy.prepend(ground);
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

async function exportPng({ text, width, height }, scale = 2) {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = h("canvas", { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Buttons that copy the picture, or save it where the clipboard is not to be had. */
function exportButtons(svg, name) {
  const message = h("span", { class: "quiet", role: "status" });
  const tell = (text) => { message.textContent = text; setTimeout(() => (message.textContent = ""), 2500); };
  const copy = async (type, content, file) => {
    try {
      await navigator.clipboard.write([new ClipboardItem({ [type]: content })]);
      tell("copied");
    } catch (error) {
      if (!["NotAllowedError", "TypeError", "ReferenceError", "DataError"].includes(error.name)) throw error;
      saveFile(file, type, content);
      tell("saved as a file");
    }
  };
  return h("span", { class: "export-buttons" },
    h("button", { type: "button", onclick: () => copy("text/plain", new Blob([exportSvg(svg).text], { type: "text/plain" }), name + ".svg") }, "copy SVG"),
    h("button", { type: "button", onclick: async () => copy("image/png", await exportPng(exportSvg(svg)), name + ".png") }, "copy PNG"),
    h("button", { type: "button", onclick: () => saveFile(name + ".svg", "image/svg+xml", exportSvg(svg).text) }, "save"), message);
}

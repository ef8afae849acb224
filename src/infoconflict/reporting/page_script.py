"""The scripts of a page: sorting, folding, the way from a number to its sources. All are extras; every row is there without."""

SORTING = """
for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) continue;
  const groups = [...new Set([...body.rows].map((row) => row.dataset.group))];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    if (head.querySelector("a")) {
      button.ariaLabel = `Sort by ${head.textContent}`;
      head.append(button);
    } else {
      button.append(...head.childNodes);
      head.append(button);
    }
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const group = (row) => head.classList.contains("number") ? groups.indexOf(row.dataset.group) : 0;
      const order = (a, b) => {
        // Numbers of different kinds are not compared.
        if (group(a) !== group(b)) return group(a) - group(b);
        const [x, y] = [key(a), key(b)], [p, q] = [parseFloat(x), parseFloat(y)];
        // Rows without a value stay at the end, whichever way the others go.
        if (x === "" || y === "") return (x === "") - (y === "");
        const both = !Number.isNaN(p) && !Number.isNaN(q);
        return (both ? p - q : x.localeCompare(y)) * (down ? -1 : 1);
      };
      body.append(...[...body.rows].filter((row) => !row.classList.contains("total")).sort(order));
      body.append(...[...body.rows].filter((row) => row.classList.contains("total")));
    });
  });
}
"""

# What is folded in can be read on paper, and where a link leads.
FOLDING = """
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
const unfold = () => {
  const part = document.getElementById(location.hash.slice(1))?.closest("details:not([open])");
  if (!part) return;
  part.open = true;
  part.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
"""

# The address says what is shown, so that Back goes back and a link to a card can be kept. All texts enter as text.
VIEWER = """
const {texts, cards, cells, names} = JSON.parse(document.getElementById("provenance-data").textContent);
const pairs = (list) => Array.from({length: list.length / 2}, (_, n) => [texts[list[2 * n]], texts[list[2 * n + 1]]]);
const el = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
};
const nameOf = (card) => `${texts[cards[card][0]]} ${texts[cards[card][1]]}`.trim();
const linkTo = (card, text) => el("a", {href: `#card-${card}`}, text ?? nameOf(card));
const grid = (head, rows, label, numbers = []) => el("div", {class: "scroll", tabindex: "0"}, el("table", {},
  label ? el("caption", {}, el("span", {}, label)) : null,
  el("thead", {}, el("tr", {}, ...head.map((text, place) =>
    el("th", numbers.includes(place) ? {scope: "col", class: "number"} : {scope: "col"}, text)))),
  el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((part, place) =>
    el("td", numbers.includes(place) ? {class: "number"} : {}, part)))))));
const list = (rows) => el("dl", {class: "facts"}, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
const code = (text) => el("code", {class: "digest"}, text);
const units = {
  seconds: (x) => ["Time", x < 120 ? `${x} s` : `${(x / 60).toFixed(1)} min`],
  peak_memory_bytes: (x) => ["Peak memory", `${(x / 2 ** 30).toFixed(2)} GiB`],
  device: (x) => ["Device", x],
  tokens: (x) => ["Tokens", x],
  peak_gpu_memory_bytes: (x) => ["Peak memory on a GPU", `${(x / 2 ** 30).toFixed(2)} GiB`],
  stored_bytes: (x) => ["Stored", `${(x / 2 ** 20).toFixed(2)} MiB`],
};

// Half up, and whole numbers for as long as can be: 23 of 80 are 28.8 %.
const percent = (hits, total) => `${(Math.round(1000 * hits / total) / 10).toFixed(1)}\u00a0%`;

function showCell(number) {
  const [title, runs] = cells[number];
  const parts = runs.map(([card, counts, rows]) => {
    const rates = [];
    for (let n = 0; n < counts.length; n += 3) {
      const [name, hits, total] = [texts[counts[n]], counts[n + 1], counts[n + 2]];
      rates.push([name, String(hits), String(total), total ? percent(hits, total) : "\u2013"]);
    }
    const answers = pairs(cards[card][4]).find(([name]) => name === "answers");
    return el("section", {},
      el("p", {}, "Answers, counted by stage ", linkTo(card), "; digest ", code(answers ? answers[1] : "")),
      rates.length ? grid(["Count", "Rows", "Of", "Share"], rates, null, [1, 2, 3]) : null,
      rows.length ? grid(["Row", "Asked", "Gold", "Answer", "Scores or text"], rows.map((row) => row.map((text) => texts[text])),
        "The first rows of each kind.") : null);
  });
  return [texts[title], parts];
}

function showCard(number) {
  const [, , spec, inputs, outputs, about, cost] = cards[number];
  const read = [];
  for (let n = 0; n < inputs.length; n += 3) {
    const [name, maker, digest] = [texts[inputs[n]], inputs[n + 1], inputs[n + 2]];
    read.push([name, maker >= 0 ? linkTo(maker) : el("span", {}, "a source: ", code(texts[digest]))]);
  }
  const spent = pairs(cost).map(([name, value]) => units[name] ? units[name](value) : [name, value]);
  const heading = (text) => el("h3", {}, text);
  const parts = [
    heading("Read"), read.length ? list(read) : el("p", {}, "No file: this is where the chain begins."),
    heading("Wrote"), list(pairs(outputs).map(([name, digest]) => [name, code(digest)])),
    heading("Settings"), list(pairs(spec).map(([name, value]) => [name, el("code", {}, value)])),
    heading("Cost"), list(spent),
    heading("Rows, code, versions"), list(pairs(about).map(([name, value]) => [name, el("code", {}, value)])),
  ];
  return [nameOf(number), parts];
}

const viewer = el("dialog", {id: "viewer", "aria-labelledby": "viewer-title"});
document.body.append(viewer);
const leave = () => { if (/^#(cell|card)-/.test(location.hash)) history.replaceState(null, "", "#provenance"); };
viewer.addEventListener("close", leave);
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

function route() {
  const [, kind, name] = location.hash.match(/^#(cell|card)-(.+)$/) ?? [];
  const number = kind === "cell" ? names.indexOf(name) : Number(name);
  if (!(kind === "cell" ? cells : cards)[number]) {
    if (viewer.open) viewer.close();
    return;
  }
  const [title, parts] = kind === "cell" ? showCell(number) : showCard(number);
  const back = el("button", {type: "button"}, "Back");
  back.addEventListener("click", () => history.back());
  const close = el("button", {type: "button"}, "Close");
  close.addEventListener("click", () => viewer.close());
  viewer.replaceChildren(
    el("header", {}, el("h2", {id: "viewer-title", tabindex: "-1"}, title), el("p", {}, back, close)), ...parts);
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
  document.getElementById("viewer-title").focus();
}
addEventListener("hashchange", route);
route();

const finder = document.getElementById("card-finder"), field = document.getElementById("card-search");
const found = document.getElementById("card-list"), most = 60;
function search() {
  const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean), hits = [];
  let many = 0;
  for (let card = 0; card < cards.length; card++) {
    const text = [nameOf(card), ...pairs(cards[card][4]).flat()].join(" ").toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    if (many++ < most) hits.push(el("li", {}, linkTo(card)));
  }
  if (many > most) hits.push(el("li", {}, `and ${many - most} more; add a word`));
  found.replaceChildren(...hits);
}
field.addEventListener("input", search);
finder.hidden = false;
search();
"""

SCRIPT = f"{{{SORTING}}}\n{{{FOLDING}}}"

"""How our pages look, and the little that moves on them."""

STYLE = """
:root{color-scheme:light dark;--back:#fafaf9;--card:#fff;--ink:#1c1917;--soft:#6b6560;
--line:#e2dfdb;--mark:#2563a8;--s0:#2563a8;--s1:#d9622b;--s2:#2f8a4c;--s3:#a3399b;--s4:#b58a00;
--s5:#0f8f96;--s6:#c0344d;--s7:#6f6a64}
@media(prefers-color-scheme:dark){:root{--back:#161413;--card:#1f1d1b;--ink:#ece8e4;
--soft:#a39c95;--line:#38342f;--mark:#7db3ec;--s0:#6aa7e8;--s1:#f08a52;--s2:#62bd7f;--s3:#d583cd;
--s4:#dcb53c;--s5:#4cc3ca;--s6:#ee7287;--s7:#a39c95}}
*{box-sizing:border-box}
[hidden]{display:none!important}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 64px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:19px;margin:36px 0 10px}
h3{font-size:16px;margin:0;overflow-wrap:anywhere}
p{margin:6px 0}
a{color:var(--mark)}
.note,figcaption,.soft{color:var(--soft);font-size:13.5px}
.facts{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:8px 14px;min-width:92px}
.facts dt{color:var(--soft);font-size:12.5px}
.facts dd{margin:0;font-size:20px;font-variant-numeric:tabular-nums}
input[type=search]{font:inherit;color:inherit;background:var(--card);width:min(340px,100%);
border:1px solid var(--line);border-radius:8px;padding:7px 12px;margin:4px 0 14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:14px 16px;margin:0 0 16px}
.card header{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;
justify-content:space-between}
.card blockquote{margin:8px 0 12px;padding-left:12px;border-left:3px solid var(--line);
overflow-wrap:anywhere;white-space:pre-line}
.chips{display:flex;flex-wrap:wrap;gap:6px;font-size:13px;font-variant-numeric:tabular-nums}
.chips span{border:1px solid var(--line);border-radius:99px;padding:1px 10px}
.chips .main{background:var(--mark);border-color:var(--mark);color:var(--card)}
.strips{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:6px 14px;
align-items:center}
.strips>span{color:var(--soft);font-size:13px}
img,video{display:block;max-width:100%;height:auto;border-radius:4px}
video{background:#000}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line);
font-size:14px}
th,td{padding:6px 12px;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);
overflow-wrap:anywhere;min-width:64px}
th{padding:0;white-space:nowrap}
th button{all:unset;cursor:pointer;padding:6px 12px;color:var(--soft);font-weight:600}
th button:focus-visible{outline:2px solid var(--mark)}
th[aria-sort=ascending] button:after{content:" \\2191"}
th[aria-sort=descending] button:after{content:" \\2193"}
th.number,td.number{text-align:right;font-variant-numeric:tabular-nums}
td img{max-width:none}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:12px 14px}
.strips figure,.samples figure{border:0;padding:0;background:none}
figure h3{margin-bottom:4px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(520px,100%),1fr));gap:16px}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:11px;font-variant-numeric:tabular-nums}
svg .grid{stroke:var(--line)}
svg .axis{stroke:var(--soft)}
svg .curve,svg .faint,svg .dots{fill:none;stroke-width:1.6;
stroke-linejoin:round;stroke-linecap:round}
svg .faint{opacity:.25;stroke-width:1}
svg .dots{stroke-width:5}
svg .wave{fill:var(--mark)}
svg .cursor{stroke:var(--soft);stroke-dasharray:3 3}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle}
.legend output{font-variant-numeric:tabular-nums;color:var(--soft);margin-left:6px}
.samples td,.samples th{padding:8px;vertical-align:top}
.samples th{white-space:normal;font-weight:600;text-align:left}
.samples tbody th{position:sticky;left:0;background:var(--card);min-width:180px;max-width:260px}
.samples video,.samples img{width:240px;height:auto}
"""

SCRIPT = r"""
"use strict";
const all = (what, within = document) => [...within.querySelectorAll(what)];

for (const box of all("input[type=search]"))
  box.addEventListener("input", () => {
    const sought = box.value.trim().toLowerCase();
    for (const item of all("[data-item]", box.closest("section") ?? document))
      item.hidden = !item.textContent.toLowerCase().includes(sought);
  });

for (const table of all("table.sortable"))
  all("thead th", table).forEach((head, column) => head.addEventListener("click", () => {
    const down = head.ariaSort === "ascending";
    const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const compare = (a, b) => a.localeCompare(b, undefined, {numeric: true});
    const order = (a, b) => key(a) - key(b) || compare(key(a), key(b));
    for (const other of all("thead th", table)) other.ariaSort = null;
    head.ariaSort = down ? "descending" : "ascending";
    const rows = [...table.tBodies[0].rows].sort((a, b) => down ? order(b, a) : order(a, b));
    table.tBodies[0].append(...rows);
  }));

if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const watch = new IntersectionObserver(seen => seen.forEach(({target, isIntersecting}) =>
    isIntersecting ? target.play().catch(() => {}) : target.pause()));
  all("video[loop]").forEach(clip => watch.observe(clip));
}

for (const svg of all("svg[data-chart]")) {
  const {left, right, top, bottom, first, last, low, high, log} = JSON.parse(svg.dataset.chart);
  const figure = svg.closest("figure"), cursor = svg.querySelector(".cursor");
  const curves = all(".curve", svg).map(curve =>
    curve.getAttribute("d").slice(1).split(/[ML]/).map(point => point.split(",").map(Number)));
  const outputs = all("output", figure), ends = outputs.map(output => output.value);
  const step = x => first + (x - left) / (right - left) * (last - first);
  const value = y => {
    const share = (bottom - y) / (bottom - top);
    return log ? low * (high / low) ** share : low + share * (high - low);
  };
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    cursor.setAttribute("x1", x), cursor.setAttribute("x2", x);
    cursor.style.visibility = x >= left && x <= right ? "visible" : "hidden";
    curves.forEach((points, i) => {
      const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      const shown = Number(value(near[1]).toPrecision(3));
      outputs[i].value = `${shown} at ${Math.round(step(near[0]))}`;
    });
  });
  svg.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    outputs.forEach((output, i) => { output.value = ends[i]; });
  });
}
"""

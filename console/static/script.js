// Everything works without this file; with it pages are live, badges are filled and keys do something.
"use strict";

const LIVE_MS = 2000;
const BADGES_MS = 30000;
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// What only a script can do is hidden where there is none.
function reveal(within) {
  for (const hidden of all("[data-script]", within)) hidden.hidden = false;
}

// What a reader is about to do must not be taken from under their hands.
function isInUse(region) {
  const selection = document.getSelection();
  return (
    region.contains(document.activeElement) ||
    (selection !== null && !selection.isCollapsed && region.contains(selection.anchorNode)) ||
    one("details[open]", region) !== null
  );
}

async function fetchPage() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
  return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
}

// The same page once more: regions are swapped by their id where they differ.
async function refresh() {
  if (document.hidden || !one("[data-live]")) return;
  const page = await fetchPage().catch(() => null);
  if (page === null) return;
  for (const region of all("[data-region]")) {
    const fresh = page.getElementById(region.id);
    reveal(fresh ?? page);
    if (fresh === null || fresh.innerHTML === region.innerHTML || isInUse(region)) continue;
    region.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    for (const { name, value } of fresh.attributes) region.setAttribute(name, value);
    if (!fresh.hasAttribute("data-live")) region.removeAttribute("data-live");
  }
}

async function live() {
  await refresh();
  setTimeout(live, LIVE_MS);
}

async function badges() {
  if (!document.hidden) {
    const answer = await fetch("/badges.json", { cache: "no-store" }).catch(() => null);
    if (answer !== null && answer.ok) show(await answer.json());
  }
  setTimeout(badges, BADGES_MS);
}

function show(numbers) {
  for (const badge of all("[data-badge]")) {
    const name = badge.dataset.badge;
    const count = numbers[name] ?? 0;
    const isDead = name === "workers" && numbers.trouble !== null;
    badge.hidden = count === 0 && !isDead;
    badge.textContent = String(count);
    badge.classList.toggle("bad", isDead || (name !== "waiting" && name !== "workers"));
    badge.title = isDead ? numbers.trouble : badge.dataset.meaning;
  }
}

// Keys that move through rows, and to pages after a g.
const PAGES = { b: "/batches", d: "/deliveries", w: "/workers", c: "/checks", a: "/actions" };
let isAfterG = false;

function move(step) {
  const rows = all("[data-row]");
  if (rows.length === 0) return;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step;
  const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const goes = isAfterG ? PAGES[event.key] : undefined;
  isAfterG = event.key === "g" && !isAfterG;
  if (goes) location.assign(goes);
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "/" && one("[data-search]")) one("[data-search]").focus();
  else if (event.key === "?" && one("#help")) one("#help").showModal();
  else return;
  event.preventDefault();
}

async function clicked(event) {
  const button = event.target.closest("[data-copy]");
  if (button !== null) {
    await navigator.clipboard.writeText(button.dataset.copy).catch(() => null);
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = before), 1500);
  } else if (event.target.closest("[data-help]")) {
    one("#help").showModal();
  } else if (event.target.closest("[data-close]")) {
    event.target.closest("dialog").close();
  }
}

// A filter that changes is a filter that is wanted.
function changed(event) {
  if (event.target.closest("form[data-auto]") && event.target.matches("select, input[type=checkbox]")) {
    event.target.form.requestSubmit();
  }
}

document.addEventListener("keydown", pressed);
document.addEventListener("click", clicked);
document.addEventListener("change", changed);
document.addEventListener("visibilitychange", refresh);
reveal(document);
badges();
setTimeout(live, LIVE_MS);

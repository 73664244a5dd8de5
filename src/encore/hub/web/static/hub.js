// Keys, the theme, and runs that are watched. Everything works without it; nothing here makes HTML out of text.
"use strict";

// theme

const themeButton = document.getElementById("theme");

function changeTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
}

themeButton.hidden = false;
themeButton.addEventListener("click", changeTheme);

// on a phone the lists are a row that is longer than the screen

document.querySelector(".masthead nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// keys

let here = -1;

function papers() {
  return [...document.querySelectorAll("[data-paper]")];
}

function goTo(place) {
  const all = papers();
  if (!all.length) return;
  here = Math.min(Math.max(place, 0), all.length - 1);
  all.forEach((paper, index) => paper.classList.toggle("here", index === here));
  all[here].scrollIntoView({ block: "nearest" });
  all[here].querySelector("h2 a").focus({ preventScroll: true });
}

const keys = {
  j: () => goTo(here + 1),
  k: () => goTo(here - 1),
  o: () => papers()[here]?.querySelector("h2 a").click(),
  v: () => (papers()[here] ?? document).querySelector("form.vote button, a.vote")?.click(),
  t: changeTheme,
  "/": () => document.getElementById("q").focus(),
  "?": () => document.getElementById("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});

document.addEventListener("focusin", (event) => {
  const paper = event.target.closest?.("[data-paper]");
  if (paper) here = papers().indexOf(paper);
});

// An answer to a vote that is an error is shown, not swallowed.
document.addEventListener("htmx:responseError", (event) => {
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent =
    new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html").body.textContent.trim().slice(0, 300) ||
    "The hub did not answer.";
  document.getElementById("main").prepend(notice);
  notice.scrollIntoView({ block: "nearest" });
});

// A vote by keyboard keeps its place after htmx has put in the new button.
document.addEventListener("htmx:afterSwap", (event) => {
  const target = event.detail.elt;
  if (target?.matches?.("form.vote")) target.querySelector("button").focus({ preventScroll: true });
});

// a run

const live = document.getElementById("live");

if (live) {
  const stages = document.getElementById("stages");
  const log = document.getElementById("log");
  const pictures = document.getElementById("pictures");
  const words = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
  const source = new EventSource(live.dataset.events);
  const told = (listener) => (event) => listener(JSON.parse(event.data));

  const figures = (metrics) =>
    Object.entries(metrics ?? {})
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${value === null ? "–" : Number(value.toPrecision(4))}`)
      .join(" ");

  function stageOf(name) {
    let item = [...stages.children].find((one) => one.dataset.stage === name);
    if (!item) {
      item = document.createElement("li");
      item.dataset.stage = name;
      const label = document.createElement("span");
      label.className = "stage";
      label.textContent = name;
      const bar = document.createElement("progress");
      bar.setAttribute("aria-label", name);
      const text = document.createElement("span");
      text.className = "figures";
      item.append(label, bar, text);
      stages.append(item);
    }
    return item;
  }

  source.addEventListener("progress", told((event) => {
    const item = stageOf(event.stage);
    const bar = item.querySelector("progress");
    if (event.total) {
      bar.max = event.total;
      bar.value = event.step;
    }
    item.querySelector(".figures").textContent = `${event.step} / ${event.total ?? "?"} ${figures(event.metrics)}`;
  }));

  source.addEventListener("message", told((event) => {
    log.append(event.text + "\n");
    log.scrollTop = log.scrollHeight;
  }));

  source.addEventListener("picture", told((event) => {
    const address = pictures.dataset.base + encodeURIComponent(event.name);
    let image = [...pictures.querySelectorAll("img")].find((one) => one.getAttribute("src").startsWith(address));
    if (!image) {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      image = document.createElement("img");
      image.alt = caption.textContent = event.stage;
      figure.append(image, caption);
      pictures.append(figure);
    }
    image.src = address + "?at=" + Date.now();
  }));

  source.addEventListener("state", told((event) => {
    const state = document.querySelector("#state .state");
    state.className = `state ${event.state}`;
    state.textContent = words[event.state] ?? event.state;
    const position = document.getElementById("position");
    if (event.state !== "queued") position.textContent = "";
    else if (event.position) position.textContent = `${event.position} before it.`;
  }));

  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
}

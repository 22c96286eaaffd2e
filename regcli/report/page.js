"use strict";
// Layers of the viewer: which one lies on the fixed image, how much of it, and flicker.
const viewer = document.getElementById("compare");
const wipe = document.getElementById("wipe");
const radios = [...viewer.querySelectorAll("input[name=top]")];
const flickers = [...viewer.querySelectorAll("button[data-one]")];
const PERIOD_MS = 700; // below three changes a second, which some people must not see
let timer = 0;

function show(name) {
  viewer.dataset.top = name;
  radios.find((radio) => radio.value === name).checked = true;
}

function move(share) {
  wipe.value = share;
  viewer.style.setProperty("--wipe", `${wipe.value}%`);
}

function rest() {
  clearInterval(timer);
  timer = 0;
  viewer.classList.remove("flickering");
  flickers.forEach((button) => button.setAttribute("aria-pressed", "false"));
}

function flicker(button) {
  const running = button.getAttribute("aria-pressed") === "true";
  rest();
  if (running) {
    show(button.dataset.other);
    return;
  }
  const { one, other } = button.dataset;
  button.setAttribute("aria-pressed", "true");
  viewer.classList.add("flickering");
  show(one);
  timer = setInterval(() => show(viewer.dataset.top === one ? other : one), PERIOD_MS);
}

radios.forEach((radio) => radio.addEventListener("change", () => { rest(); show(radio.value); }));
flickers.forEach((button) => button.addEventListener("click", () => flicker(button)));
wipe.addEventListener("input", () => { rest(); move(wipe.value); });

// The divider can be dragged in the pictures too.
viewer.querySelectorAll(".stack").forEach((stack) => {
  const follow = (event) => {
    const box = stack.getBoundingClientRect();
    rest();
    move((100 * (event.clientX - box.left)) / box.width);
  };
  stack.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    stack.setPointerCapture(event.pointerId);
    follow(event);
  });
  stack.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const number = Number(event.key);
  if (event.key.toLowerCase() === "f") flicker(flickers[0]);
  else if (event.key.toLowerCase() === "x") flicker(flickers[1]);
  else if (number >= 1 && number <= radios.length) { rest(); show(radios[number - 1].value); }
});

// What is folded up on the screen is wanted on paper.
addEventListener("beforeprint", () => {
  rest();
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
});

move(50);
show("after");

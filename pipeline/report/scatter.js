(() => {
  "use strict";
  const MAX_ZOOM = 64, MARGIN = 0.03, TAP_PX = 6, TAP_MS = 350;
  const root = document.getElementById("scatter");
  const data = JSON.parse(document.getElementById("scatter-data").textContent);
  const tip = root.querySelector(".tip");
  const hidden = new Set();
  let selected = -1, ink = "#000", rim = ink, isDue = false;
  root.classList.add("live");

  // zoom 1 shows all; (x, y) is where the panel's origin lies, in pixels of the page
  const views = [...root.querySelectorAll("canvas")].map((canvas, panel) =>
    ({ canvas, points: data.points[panel], zoom: 1, x: 0, y: 0, pointers: new Map(), travel: 0, tapped: null }));

  const side = view => view.canvas.clientWidth;
  const place = (view, index, axis) => {
    const unit = view.points[2 * index + axis] / data.steps;
    return (MARGIN + (1 - 2 * MARGIN) * unit) * side(view) * view.zoom + (axis ? view.y : view.x);
  };

  function draw(view) {
    const size = side(view), ratio = window.devicePixelRatio || 1, pixels = Math.round(size * ratio);
    if (view.canvas.width !== pixels) view.canvas.width = view.canvas.height = pixels;
    const context = view.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size, size);
    const radius = Math.min(6, size / 150 + 0.6 * Math.log2(view.zoom));
    const dot = (index, extent) => {
      const x = place(view, index, 0), y = place(view, index, 1);
      if (x < -9 || y < -9 || x > size + 9 || y > size + 9) return;
      context.beginPath();
      context.arc(x, y, extent, 0, 2 * Math.PI);
      context.fillStyle = data.colours[data.labels[index]];
      context.fill();
      context.stroke();
    };
    context.strokeStyle = rim; // the paler colours on white, the darker ones on black
    context.lineWidth = 0.5;
    data.labels.forEach((label, index) => { if (!hidden.has(label)) dot(index, radius); });
    if (selected < 0) return;
    context.strokeStyle = ink;
    context.lineWidth = 2;
    dot(selected, radius + 3);
  }

  function redraw() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; views.forEach(draw); });
  }

  function move(view, zoom, x, y) {
    view.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    const least = side(view) * (1 - view.zoom);
    view.x = Math.min(0, Math.max(least, x));
    view.y = Math.min(0, Math.max(least, y));
    view.canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // a page that is read can be scrolled
    redraw();
  }

  function zoomAbout(view, factor, x, y) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor)), grown = zoom / view.zoom;
    move(view, zoom, x - (x - view.x) * grown, y - (y - view.y) * grown);
  }

  function select(view, x, y, reach) {
    let found = -1, least = reach * reach;
    data.labels.forEach((label, index) => {
      if (hidden.has(label)) return;
      const across = place(view, index, 0) - x, down = place(view, index, 1) - y;
      if (across * across + down * down < least) {
        least = across * across + down * down;
        found = index;
      }
    });
    if (found !== selected) {
      selected = found;
      redraw();
    }
    tip.hidden = found < 0;
    if (found < 0) return;
    describe(found);
    const box = view.canvas.getBoundingClientRect(), all = root.getBoundingClientRect();
    const left = box.left - all.left + x, widest = document.documentElement.clientWidth - all.left - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(-all.left, Math.min(left + 14, widest))}px`;
    tip.style.top = `${box.top - all.top + y + 14}px`;
  }

  function describe(index) {
    const [image, text] = tip.children, { columns, side: pixels, count } = data.sheet, scale = 64 / pixels;
    image.hidden = index >= count;
    image.style.display = image.hidden ? "none" : "";
    image.style.backgroundSize = `${columns * pixels * scale}px auto`;
    image.style.backgroundPosition = `${-64 * (index % columns)}px ${-64 * Math.floor(index / columns)}px`;
    text.textContent = `${data.names[data.labels[index]]}\n${data.confidences[index]} % sure\nsample ${index}`;
  }

  function unselect() {
    selected = -1;
    tip.hidden = true;
    redraw();
  }

  // where the pressed pointers are on the whole: their middle, and how far apart two of them are
  function grip(view) {
    const held = [...view.pointers.values()], [a, b] = held;
    const mean = axis => held.reduce((sum, at) => sum + at[axis], 0) / held.length;
    return { x: mean("x"), y: mean("y"), spread: held.length > 1 ? Math.hypot(a.x - b.x, a.y - b.y) : 0 };
  }

  const KEYS = {
    "+": view => zoomAbout(view, 1.5, side(view) / 2, side(view) / 2),
    "=": view => KEYS["+"](view),
    "-": view => zoomAbout(view, 1 / 1.5, side(view) / 2, side(view) / 2),
    "0": view => move(view, 1, 0, 0),
    ArrowLeft: view => move(view, view.zoom, view.x + 40, view.y),
    ArrowRight: view => move(view, view.zoom, view.x - 40, view.y),
    ArrowUp: view => move(view, view.zoom, view.x, view.y + 40),
    ArrowDown: view => move(view, view.zoom, view.x, view.y - 40),
  };

  views.forEach(view => {
    const { canvas, pointers } = view;
    const at = event => ({ x: event.offsetX, y: event.offsetY });

    canvas.addEventListener("wheel", event => {
      if (view.zoom === 1 && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1, rate = event.ctrlKey ? 0.01 : 0.002;
      zoomAbout(view, Math.exp(-event.deltaY * lines * rate), event.offsetX, event.offsetY);
      select(view, event.offsetX, event.offsetY, 10);
    }, { passive: false });

    canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      if (!pointers.size) view.travel = 0;
      pointers.set(event.pointerId, at(event));
      if (pointers.size > 1) view.travel = Infinity;
    });

    canvas.addEventListener("pointermove", event => {
      const here = at(event), before = pointers.get(event.pointerId);
      if (!before) {
        select(view, here.x, here.y, 10);
        return;
      }
      const old = grip(view);
      view.travel += Math.hypot(here.x - before.x, here.y - before.y);
      pointers.set(event.pointerId, here);
      if (view.travel < TAP_PX) return;
      const now = grip(view), factor = old.spread ? now.spread / old.spread : 1;
      tip.hidden = true;
      move(view, view.zoom, view.x + now.x - old.x, view.y + now.y - old.y);
      zoomAbout(view, factor, now.x, now.y);
    });

    canvas.addEventListener("pointerup", event => {
      const wasPressed = pointers.delete(event.pointerId);
      if (!wasPressed || pointers.size || view.travel >= TAP_PX) return;
      const now = { ...at(event), time: event.timeStamp }, last = view.tapped;
      const isDouble = last && now.time - last.time < TAP_MS && Math.hypot(now.x - last.x, now.y - last.y) < 30;
      view.tapped = isDouble ? null : now;
      if (isDouble) {
        move(view, 1, 0, 0);
        unselect();
      } else {
        select(view, now.x, now.y, event.pointerType === "mouse" ? 10 : 22);
      }
    });

    canvas.addEventListener("pointercancel", event => pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") unselect(); });
    canvas.addEventListener("keydown", event => {
      if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key](view);
    });
    new ResizeObserver(() => move(view, view.zoom, view.x, view.y)).observe(canvas);
  });

  const buttons = [...root.querySelectorAll(".legend button:not(.all)")], all = root.querySelector(".legend .all");
  function show(label, isShown) {
    hidden[isShown ? "delete" : "add"](label);
    buttons[label].setAttribute("aria-pressed", isShown);
    all.textContent = hidden.size ? "all" : "none";
    unselect();
  }
  buttons.forEach((button, label) => button.addEventListener("click", () => show(label, hidden.has(label))));
  if (all) all.addEventListener("click", () => {
    const isShown = hidden.size > 0;
    buttons.forEach((_, label) => show(label, isShown));
  });

  function readColours() {
    ink = getComputedStyle(root).color;
    rim = ink.replace("rgb(", "rgba(").replace(")", ", 0.45)");
    redraw();
  }
  tip.firstElementChild.style.backgroundImage = `url("${root.querySelector(".sheet").src}")`;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  readColours();
  views.forEach(draw); // a page that is printed at once gets no animation frame
  addEventListener("beforeprint", () => views.forEach(draw));
})();

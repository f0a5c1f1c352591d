// Controls: class, sort, layer, histogram bins, size, theme, keyboard.

const byId = (id) => document.getElementById(id);
const modesBox = byId('modes');

function choose(changes) {
  const old = { ...state };
  Object.assign(state, changes);
  byId('class').value = state.category;
  byId('sort').value = state.sort;
  byId('outline').checked = state.outline;
  modesBox.querySelector(`[value="${state.mode}"]`).checked = true;
  byId('reset').hidden = !state.category && state.bin === null;
  const press = (selector, isChosen) => document.querySelectorAll(selector).forEach((button) => {
    button.setAttribute('aria-pressed', String(isChosen(button.dataset)));
  });
  press('[data-class]', (data) => data.class === state.category);
  press('[data-bin]', (data) => Number(data.bin) === state.bin);
  if (['category', 'sort', 'bin'].some((name) => state[name] !== old[name])) fill();
  else redraw();
  if (current !== null) enlarge();
  legend();
}

function legend() {
  const { object, truth, hit, falseAlarm, miss } = index.colours;
  const rgb = (colour) => `rgb(${colour.join(' ')})`;
  const entry = (colour, text) => {
    const span = element('span', '', text);
    span.style.setProperty('--swatch', colour);
    return span;
  };
  const ramp = (colours, text) => {
    const span = entry(`linear-gradient(90deg, ${colours.join(', ')})`, text);
    span.className = 'ramp';
    return span;
  };
  const level = (l) => rgb([...diverging.subarray(3 * l, 3 * l + 3)]);
  const entries = {
    prediction: [entry(rgb(object), 'prediction')],
    truth: [entry(rgb(truth), 'truth')],
    errors: [entry(rgb(hit), 'found'), entry(rgb(falseAlarm), 'false alarm'), entry(rgb(miss), 'missed')],
    probability: [ramp(['#000', '#fff'], 'probability 0 to 1')],
    spatial: [ramp([0, 64, 127, 190, 254].map(level), 'spatial mask: negative, zero, positive; one scale per group')],
    all: [entry(rgb(object), 'prediction'), entry(rgb(truth), 'truth')],
  }[state.mode] || [];
  if (state.outline && !['truth', 'all'].includes(state.mode)) entries.push(entry(rgb(truth), 'outline of the truth'));
  if (two) entries.unshift(entry('var(--A)', 'A left'), entry('var(--B)', 'B right'));
  document.querySelectorAll('.legend').forEach((box) => {
    box.replaceChildren(...entries.map((span) => span.cloneNode(true)));
  });
}

function setUpControls() {
  [...new Set(index.images.map((image) => image.category))].forEach((c) => byId('class').append(new Option(c, c)));
  SORTS.forEach((sort) => byId('sort').append(new Option(sort.label, sort.id)));
  MODES.forEach((mode) => {
    const label = element('label');
    const radio = element('input');
    Object.assign(radio, { type: 'radio', name: 'mode', value: mode.id });
    label.append(radio, mode.label);
    modesBox.append(label);
  });
  byId('outline-label').hidden = !index.truth;
  byId('class').addEventListener('change', (event) => choose({ category: event.target.value }));
  byId('sort').addEventListener('change', (event) => choose({ sort: event.target.value }));
  byId('outline').addEventListener('change', (event) => choose({ outline: event.target.checked }));
  modesBox.addEventListener('change', (event) => choose({ mode: event.target.value }));
  byId('size').addEventListener('input', (event) => gallery.style.setProperty('--height', `${event.target.value}px`));
  byId('reset').addEventListener('click', () => choose({ category: '', bin: null }));
  byId('controls').addEventListener('submit', (event) => event.preventDefault());
  byId('theme').addEventListener('click', switchTheme);
}

function switchTheme() {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  root.dataset.theme = (root.dataset.theme || system) === 'dark' ? 'light' : 'dark';
}

document.addEventListener('click', (event) => {
  const target = event.target.closest('button');
  if (!target) {
    if (event.target === lightbox) closeImage();
    return;
  }
  if (target.matches('.shot')) openImage(Number(target.dataset.number));
  if (target.dataset.class !== undefined) {
    choose({ category: target.dataset.class === state.category ? '' : target.dataset.class });
  }
  if (target.dataset.bin !== undefined) {
    choose({ bin: Number(target.dataset.bin) === state.bin ? null : Number(target.dataset.bin) });
  }
  if (target.dataset.mode) choose({ mode: target.dataset.mode });
});
byId('previous').addEventListener('click', () => step(-1));
byId('next').addEventListener('click', () => step(1));
byId('close').addEventListener('click', closeImage);

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches('select, input[type="range"], input[type="radio"]') && current === null;
  const number = Number(event.key);
  if (number >= 1 && number <= MODES.length && !typing) choose({ mode: MODES[number - 1].id });
  else if (event.key.toLowerCase() === 't' && index.truth && !typing) choose({ outline: !state.outline });
  else if (current !== null && event.key === 'ArrowRight') step(1);
  else if (current !== null && event.key === 'ArrowLeft') step(-1);
  else return;
  event.preventDefault();
});

setUpControls();
choose({});
fill();

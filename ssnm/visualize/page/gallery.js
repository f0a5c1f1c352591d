// The gallery: which images, in what order, as groups or one by one; canvases are drawn in view and freed out of it.

const gallery = document.getElementById('gallery');
const LETTERS = ['A', 'B'];
const BINS = 20;
const state = { category: '', sort: '', mode: 'prediction', outline: false, bin: null };
let order = []; // numbers of the images on the page, in reading order

const gap = (number) => {
  const [a, b] = index.images[number].J;
  return a === null || b === null || a === undefined || b === undefined ? null : b - a;
};
const scoreOf = (number) => {
  const known = index.images[number].J.filter((j) => j !== null);
  return known.length ? known.reduce((sum, j) => sum + j, 0) / known.length : null;
};
const minus = (value) => (value === null ? null : -value);
const absolute = (number) => (gap(number) === null ? null : Math.abs(gap(number)));

const qualityOf = (number) => {
  const known = index.images[number].quality.filter((q) => q !== null);
  return known.length ? Math.min(...known) : null;
};
const judged = !index.scored && index.images.some((_, number) => qualityOf(number) !== null);

// key: images with a larger one come first; images without one come last.
const SORTS = [
  { id: 'difference', label: 'largest difference in J', key: absolute, when: two && index.scored },
  { id: 'b-better', label: 'B better than A', key: gap, when: two && index.scored },
  { id: 'a-better', label: 'A better than B', key: (n) => minus(gap(n)), when: two && index.scored },
  { id: 'masks', label: 'masks differ most', key: (n) => index.images[n].disagreement, when: two },
  { id: 'quality', label: 'check first: lowest quality', key: (n) => minus(qualityOf(n)), when: judged },
  { id: 'groups', label: 'groups', key: null, when: true },
  { id: 'worst', label: 'lowest J first', key: (n) => minus(scoreOf(n)), when: index.scored },
  { id: 'best', label: 'highest J first', key: scoreOf, when: index.scored },
  { id: 'name', label: 'class and name', key: (n) => -n, when: true },
].filter((sort) => sort.when);
state.sort = SORTS[0].id;

const percent = (value) => (value === null || value === undefined ? '–' : (100 * value).toFixed(1));
const signed = (value) => (value === null ? '–' : `${value < 0 ? '−' : '+'}${(100 * Math.abs(value)).toFixed(1)}`);

function shown(number) {
  const image = index.images[number];
  if (state.category && image.category !== state.category) return false;
  if (state.bin === null) return true;
  return image.J.some((j) => j !== null && Math.min(Math.floor(j * BINS), BINS - 1) === state.bin);
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function scoreText(number) {
  const { J } = index.images[number];
  if (!index.scored) return judged ? `quality ${percent(qualityOf(number))}` : '';
  return two ? `${percent(J[0])} → ${percent(J[1])}` : percent(J[0]);
}

function meter(number) {
  const bar = element('span', 'meter');
  index.images[number].J.forEach((j, run) => {
    const track = element('span');
    const fill = element('i', `run-${LETTERS[run]}`);
    fill.style.width = `${100 * (j ?? 0)}%`;
    track.append(fill);
    bar.append(track);
  });
  return bar;
}

function shot(number, again) {
  const image = index.images[number];
  const button = element('button', again ? 'shot again' : 'shot');
  button.type = 'button';
  button.dataset.number = number;
  const score = index.scored ? `, J ${image.J.map(percent).join(' and ')}` : '';
  button.setAttribute('aria-label', `${image.category} ${image.name}${score}${again ? ', seen before' : ''}; enlarge`);
  const frames = element('span', 'frames');
  index.runs.forEach((_, run) => {
    const canvas = element('canvas');
    canvas.width = 0;
    canvas.dataset.run = run;
    canvas.style.setProperty('--ratio', image.size[0] / image.size[1]);
    frames.append(canvas);
  });
  const caption = element('span', 'caption');
  caption.append(element('span', 'name', state.sort === 'groups' ? image.name : `${image.category} ${image.name}`));
  caption.append(element('b', '', scoreText(number)));
  button.append(frames, caption);
  if (index.scored) button.append(meter(number));
  return button;
}

function groupBlock(group, position) {
  const fresh = group.members.slice(0, group.fresh).filter(shown);
  if (!fresh.length) return null;
  const block = element('div', 'group');
  const heading = element('h3', '', `${group.category} · group ${position}`);
  const scores = fresh.map(scoreOf).filter((j) => j !== null);
  const mean = scores.length ? ` · mean J ${percent(scores.reduce((a, b) => a + b, 0) / scores.length)}` : '';
  heading.append(element('small', '', `${fresh.length} image${fresh.length === 1 ? '' : 's'}${mean}`));
  const row = element('div', 'row');
  row.append(...fresh.map((number) => shot(number, false)));
  if (fresh.length === group.fresh) row.append(...group.members.slice(group.fresh).map((number) => shot(number, true)));
  block.append(heading, row);
  order.push(...fresh);
  return block;
}

function groupBlocks() {
  const counts = {};
  return index.groups
    .map((group) => {
      counts[group.category] = (counts[group.category] || 0) + 1;
      return groupBlock(group, counts[group.category]);
    })
    .filter(Boolean);
}

function flatRow() {
  const { key } = SORTS.find((sort) => sort.id === state.sort);
  const value = (number) => key(number) ?? -Infinity;
  order = index.images.map((_, number) => number).filter(shown);
  order.sort((a, b) => (value(b) === value(a) ? a - b : value(b) - value(a)));
  const row = element('div', 'row');
  row.append(...order.map((number) => shot(number, false)));
  return row;
}

const watcher = new IntersectionObserver((entries) => {
  entries.forEach(({ isIntersecting, target }) => {
    target.inView = isIntersecting;
    if (isIntersecting) draw(target);
    else target.querySelectorAll('canvas').forEach((canvas) => { canvas.width = 0; canvas.drawn = ''; });
  });
}, { rootMargin: '400px 0px' });

function draw(button) {
  button.querySelectorAll('canvas').forEach(async (canvas) => {
    const wanted = `${state.mode} ${state.outline}`;
    if (canvas.drawn === wanted) return;
    canvas.drawn = wanted;
    await paint(canvas, Number(button.dataset.number), state.mode, Number(canvas.dataset.run), state.outline);
    if (!button.inView) { canvas.width = 0; canvas.drawn = ''; }
  });
}

function redraw() {
  gallery.querySelectorAll('.shot').forEach((button) => { if (button.inView) draw(button); });
}

function fill() {
  watcher.disconnect();
  order = [];
  const blocks = state.sort === 'groups' ? groupBlocks() : [flatRow()];
  gallery.replaceChildren(...blocks);
  if (!order.length) gallery.replaceChildren(element('p', 'empty', 'No image fits; choose “Show all”.'));
  gallery.querySelectorAll('.shot').forEach((button) => watcher.observe(button));
  document.getElementById('count').textContent = `${order.length} of ${index.images.length} image${index.images.length === 1 ? '' : 's'}`;
}

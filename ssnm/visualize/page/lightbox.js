// The enlarged view: one image (or one per run), its layers below, arrows to go through the gallery's order.

const lightbox = document.getElementById('lightbox');
const stage = document.getElementById('stage');
const strip = document.getElementById('strip');
let current = null;

function openImage(number) {
  current = number;
  const image = index.images[number];
  document.getElementById('lightbox-title').textContent = `${image.category} · ${image.name}`;
  const where = order.indexOf(number);
  const facts = where < 0 ? [] : [`${where + 1} of ${order.length}`];
  if (two && gap(number) !== null) facts.push(`J of B minus J of A ${signed(gap(number))}`);
  if (two) facts.push(`masks differ by ${percent(image.disagreement)}`);
  document.getElementById('lightbox-facts').textContent = facts.join(' · ');
  stage.replaceChildren(...index.runs.map((title, run) => figure(image, title, run)));
  if (!lightbox.open) lightbox.showModal();
  fillStrip(number);
  enlarge();
}

function figure(image, title, run) {
  const box = element('figure');
  const canvas = element('canvas');
  const caption = element('figcaption');
  if (two) caption.append(element('span', `run run-${LETTERS[run]}`, LETTERS[run]), ` ${title} · `);
  const scores = index.scored ? `J ${percent(image.J[run])} · P ${percent(image.P[run])} · ` : '';
  caption.append(`${scores}cut at ${image.threshold[run].toFixed(3)}`);
  box.append(canvas, caption);
  return box;
}

function enlarge() {
  const number = current;
  const large = state.mode !== 'all';
  stage.querySelectorAll('canvas').forEach((canvas, run) => {
    paint(canvas, number, state.mode, run, state.outline, large);
  });
  strip.querySelectorAll('button').forEach((button) => {
    button.setAttribute('aria-pressed', String(button.dataset.mode === state.mode));
  });
}

function fillStrip(number) {
  strip.replaceChildren(...MODES.map((mode, position) => {
    const button = element('button');
    const canvas = element('canvas');
    button.type = 'button';
    button.dataset.mode = mode.id;
    button.append(canvas, `${position + 1} ${mode.label}`);
    paint(canvas, number, mode.id, 0, false);
    return button;
  }));
}

function step(by) {
  const where = order.indexOf(current);
  const next = order[Math.max(0, Math.min(order.length - 1, where + by))];
  if (next !== undefined && next !== current) openImage(next);
}

function closeImage() {
  lightbox.close();
}

lightbox.addEventListener('close', () => {
  const button = gallery.querySelector(`.shot[data-number="${current}"]`);
  current = null;
  if (button) {
    button.focus();
    button.scrollIntoView({ block: 'nearest' });
  }
});

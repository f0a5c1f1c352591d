// Decoding thumbnails and drawing them: one function per mode, all on a canvas of the thumbnail's size.

const index = JSON.parse(document.getElementById('index').textContent);
const two = index.runs.length === 2;
const pageRead = new Promise((done) => {
  if (document.readyState !== 'loading') done();
  else document.addEventListener('DOMContentLoaded', done, { once: true });
});

const MODES = [
  { id: 'photo', label: 'Image' },
  { id: 'prediction', label: 'Prediction' },
  { id: 'truth', label: 'Truth', needs: 'truth' },
  { id: 'errors', label: 'Errors', needs: 'truth' },
  { id: 'probability', label: 'Probability' },
  { id: 'spatial', label: 'Spatial mask', needs: 'spatial' },
  { id: 'all', label: 'All four' },
].filter((mode) => !mode.needs || index[mode.needs]);

const BACKGROUND = { brightness: 0.62, saturation: 0.65 };
const CACHE_LIMIT = 160;
const LARGE = 900;
const cache = new Map();
const diverging = bytes(index.diverging);

function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

async function picture(kind, base64) {
  const image = new Image();
  image.src = `data:image/${kind};base64,${base64}`;
  await image.decode();
  return image;
}

function context(width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext('2d', { willReadFrequently: true });
}

function pixels(image, width, height) {
  const drawing = context(width, height);
  drawing.drawImage(image, 0, 0);
  return drawing.getImageData(0, 0, width, height);
}

// A mask as one byte per pixel, 1 on the object.
async function maskBytes(base64, width, height) {
  const data = pixels(await picture('png', base64), width, height).data;
  const mask = new Uint8Array(width * height);
  for (let i = 0; i < mask.length; i += 1) mask[i] = data[4 * i] > 127 ? 1 : 0;
  return mask;
}

// While the page is still being read, an element can be there with half of its text; it is whole once something follows.
async function storedLayers(number) {
  const id = `layers-${number}`;
  if (!document.getElementById(id)?.nextSibling) await pageRead;
  return JSON.parse(document.getElementById(id).textContent);
}

async function decode(number) {
  const stored = await storedLayers(number);
  const [width, height] = index.images[number].size;
  const runs = await Promise.all(stored.runs.map(async (run) => ({
    mask: await maskBytes(run.mask, width, height),
    probability: await picture('jpeg', run.probability),
    spatial: run.spatial && spatialPicture(run.spatial),
  })));
  return {
    width, height, runs,
    photo: pixels(await picture('jpeg', stored.photo), width, height),
    truth: stored.truth ? await maskBytes(stored.truth, width, height) : null,
  };
}

// The decoded layers of an image; the most recently used stay in memory.
function layersOf(number) {
  const known = cache.get(number);
  if (known) {
    cache.delete(number);
    cache.set(number, known);
    return known;
  }
  const promise = decode(number);
  cache.set(number, promise);
  if (cache.size > CACHE_LIMIT) cache.delete(cache.keys().next().value);
  return promise;
}

function spatialPicture([height, width, base64]) {
  const levels = bytes(base64);
  const drawing = context(width, height);
  const image = drawing.createImageData(width, height);
  levels.forEach((level, i) => image.data.set([...diverging.subarray(3 * level, 3 * level + 3), 255], 4 * i));
  drawing.putImageData(image, 0, 0);
  return drawing.canvas;
}

function enlargedMask(mask, width, height, factor) {
  const small = context(width, height);
  const image = small.createImageData(width, height);
  mask.forEach((m, i) => image.data.set([255 * m, 0, 0, 255], 4 * i));
  small.putImageData(image, 0, 0);
  const { data } = enlargedPixels(small.canvas, width, height, factor);
  return Uint8Array.from({ length: width * height * factor * factor }, (_, i) => (data[4 * i] > 127 ? 1 : 0));
}

function enlargedPixels(canvas, width, height, factor) {
  const large = context(width * factor, height * factor);
  large.imageSmoothingQuality = 'high';
  large.drawImage(canvas, 0, 0, width * factor, height * factor);
  return large.getImageData(0, 0, width * factor, height * factor);
}

// The same layers `factor` times as large, borders of masks smoothed: for the enlarged view.
function enlargedLayers(layers, factor) {
  if (factor <= 1) return layers;
  const { width, height } = layers;
  const photo = context(width, height);
  photo.putImageData(layers.photo, 0, 0);
  const grow = (mask) => mask && enlargedMask(mask, width, height, factor);
  return {
    width: width * factor,
    height: height * factor,
    photo: enlargedPixels(photo.canvas, width, height, factor),
    truth: grow(layers.truth),
    runs: layers.runs.map((run) => ({ ...run, mask: grow(run.mask) })),
  };
}

// The photograph, darker and greyer but for the pixels where colourOf gives a colour: these are tinted with it.
function tinted(layers, colourOf, alpha) {
  const { photo, width, height } = layers;
  const image = new ImageData(new Uint8ClampedArray(photo.data), width, height);
  const data = image.data;
  for (let i = 0; i < width * height; i += 1) {
    const at = 4 * i;
    const colour = colourOf(i);
    const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    for (let c = 0; c < 3; c += 1) {
      const value = data[at + c];
      data[at + c] = colour
        ? value * (1 - alpha) + colour[c] * alpha
        : (grey + (value - grey) * BACKGROUND.saturation) * BACKGROUND.brightness;
    }
  }
  return image;
}

// A line just outside a mask with a dark one around it; both thicker on large pictures.
function drawOutline(drawing, mask, width, height, colour) {
  const image = drawing.getImageData(0, 0, width, height);
  const thick = Math.max(1, Math.round(width / 400));
  const distance = new Uint8Array(mask.length);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const i = y * width + x;
      if (!mask[i]) distance[i] = nearMask(mask, x, y, width, height, thick + 1);
    }
  }
  distance.forEach((d, i) => {
    if (d > 0 && d <= thick) image.data.set(colour, 4 * i);
    if (d === thick + 1) image.data.set([0, 1, 2].map((c) => image.data[4 * i + c] * 0.3), 4 * i);
  });
  drawing.putImageData(image, 0, 0);
}

function nearMask(mask, x, y, width, height, reach) {
  let nearest = reach + 1;
  for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v += 1) {
    for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u += 1) {
      if (mask[v * width + u]) nearest = Math.min(nearest, Math.max(Math.abs(u - x), Math.abs(v - y)));
    }
  }
  return nearest > reach ? 0 : nearest;
}

const DRAW = {
  photo: (drawing, layers) => drawing.putImageData(layers.photo, 0, 0),
  prediction(drawing, layers, run) {
    const { mask } = layers.runs[run];
    drawing.putImageData(tinted(layers, (i) => mask[i] && index.colours.object, 0.5), 0, 0);
    drawOutline(drawing, mask, layers.width, layers.height, index.colours.object);
  },
  truth(drawing, layers) {
    if (!layers.truth) return DRAW.photo(drawing, layers);
    drawing.putImageData(tinted(layers, (i) => layers.truth[i] && index.colours.truth, 0.5), 0, 0);
    return drawOutline(drawing, layers.truth, layers.width, layers.height, index.colours.truth);
  },
  errors(drawing, layers, run) {
    const { mask } = layers.runs[run];
    const { truth } = layers;
    if (!truth) return DRAW.photo(drawing, layers);
    const { hit, falseAlarm, miss } = index.colours;
    const colourOf = (i) => (mask[i] ? (truth[i] ? hit : falseAlarm) : truth[i] && miss);
    return drawing.putImageData(tinted(layers, colourOf, 0.6), 0, 0);
  },
  probability(drawing, layers, run) {
    drawing.drawImage(layers.runs[run].probability, 0, 0, layers.width, layers.height);
  },
  spatial(drawing, layers, run) {
    const { spatial } = layers.runs[run];
    drawing.putImageData(tinted(layers, () => null, 0), 0, 0);
    if (!spatial) return;
    drawing.globalAlpha = 0.8;
    drawing.imageSmoothingQuality = 'high';
    drawing.drawImage(spatial, 0, 0, layers.width, layers.height);
    drawing.globalAlpha = 1;
  },
};

function drawMode(layers, mode, run, outline) {
  const drawing = context(layers.width, layers.height);
  DRAW[mode](drawing, layers, run);
  if (outline && layers.truth && mode !== 'truth') {
    drawOutline(drawing, layers.truth, layers.width, layers.height, index.colours.truth);
  }
  return drawing.canvas;
}

// Draw an image's mode into a canvas on the page; "all" is the image and three maps in a square of four.
async function paint(canvas, number, mode, run, outline, enlarge = false) {
  const small = await layersOf(number);
  const layers = enlarge ? enlargedLayers(small, Math.ceil(LARGE / small.width)) : small;
  const { width, height } = layers;
  if (mode !== 'all') {
    canvas.width = width;
    canvas.height = height;
    canvas.getContext('2d').drawImage(drawMode(layers, mode, run, outline), 0, 0);
    return;
  }
  canvas.width = 2 * width + 2;
  canvas.height = 2 * height + 2;
  const drawing = canvas.getContext('2d');
  const second = layers.truth ? 'truth' : 'probability';
  const third = layers.runs[run].spatial ? 'spatial' : 'probability';
  const four = ['photo', second, third, 'prediction'];
  four.forEach((part, i) => {
    drawing.drawImage(drawMode(layers, part, run, false), (i % 2) * (width + 2), (i >> 1) * (height + 2));
  });
}

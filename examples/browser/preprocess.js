// What a classifier's JSON says of its images, done as the Python package does it: grey or RGB, resize, crop, normalise.

/** An image file -> the file's input: {data, dims}, (1, channels, height, width), or bytes (1, height, width, channels). */
export async function inputOf(file, { preprocessing, input }) {
  const { mean, std, image_size: [height, width], resize_size: resize, interpolation } = preprocessing;
  let image = await pixelsOf(file, mean.length);
  const side = (length) => Math.trunc((resize * length) / Math.min(image.height, image.width));
  const size = Array.isArray(resize) ? resize : [side(image.height), side(image.width)];
  image = cropped(resized(image, size, FILTERS[interpolation]), height, width);
  if (input.startsWith("uint8")) return { data: Uint8Array.from(image.data), dims: [1, height, width, mean.length] };
  const data = new Float32Array(image.data.length);
  for (let place = 0; place < height * width; place++) {
    mean.forEach((middle, channel) => {
      const value = image.data[place * mean.length + channel] / 255;
      data[channel * height * width + place] = (value - middle) / std[channel];
    });
  }
  return { data, dims: [1, mean.length, height, width] };
}

/** Decoded upright and on white; grey is ITU-R 601 luma, with Pillow's rounding. */
async function pixelsOf(file, channels) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8ClampedArray(width * height * channels);
  for (let place = 0; place < width * height; place++) {
    const [red, green, blue] = rgba.subarray(place * 4, place * 4 + 3);
    if (channels === 1) data[place] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
    else data.set([red, green, blue], place * 3);
  }
  return { data, width, height, channels };
}

const cubic = (a) => (x) => {
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
};
const FILTERS = {
  bicubic: { weight: cubic(-0.5), support: 2 },
  bilinear: { weight: (x) => Math.max(0, 1 - x), support: 1 },
  nearest: null,
};

/** Along one axis after the other, rounded to bytes in between, as Pillow does it. */
function resized(image, [height, width], filter) {
  const wide = image.width === width ? image : alongRows(image, width, filter);
  return wide.height === height ? wide : turned(alongRows(turned(wide), height, filter));
}

function alongRows({ data, width, height, channels }, target, filter) {
  const out = new Uint8ClampedArray(target * height * channels);
  const scale = width / target;
  for (let x = 0; x < target; x++) {
    const { first, weights } = weightsOf((x + 0.5) * scale, Math.max(scale, 1), width, filter);
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        weights.forEach((weight, place) => {
          sum += weight * data[(y * width + first + place) * channels + channel];
        });
        out[(y * target + x) * channels + channel] = Math.floor(sum + 0.5);
      }
    }
  }
  return { data: out, width: target, height, channels };
}

function weightsOf(centre, scale, length, filter) {
  if (!filter) return { first: Math.min(length - 1, Math.floor(centre)), weights: [1] };
  const first = Math.max(0, Math.floor(centre - filter.support * scale + 0.5));
  const end = Math.min(length, Math.floor(centre + filter.support * scale + 0.5));
  const weights = Array.from({ length: end - first }, (_, place) =>
    filter.weight(Math.abs(first + place + 0.5 - centre) / scale),
  );
  const sum = weights.reduce((one, other) => one + other);
  return { first, weights: weights.map((weight) => weight / sum) };
}

function turned({ data, width, height, channels }) {
  const out = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        out[(x * height + y) * channels + channel] = data[(y * width + x) * channels + channel];
      }
    }
  }
  return { data: out, width: height, height: width, channels };
}

/** The centre, as torchvision's center_crop rounds it. */
function cropped({ data, width, height, channels }, toHeight, toWidth) {
  const even = (half) => (Math.abs(half % 1) === 0.5 ? 2 * Math.round(half / 2) : Math.round(half));
  const [top, left] = [even((height - toHeight) / 2), even((width - toWidth) / 2)];
  const out = new Uint8ClampedArray(toHeight * toWidth * channels);
  for (let y = 0; y < toHeight; y++) {
    const start = ((top + y) * width + left) * channels;
    out.set(data.subarray(start, start + toWidth * channels), y * toWidth * channels);
  }
  return { data: out, width: toWidth, height: toHeight, channels };
}

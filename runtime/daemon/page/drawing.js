/** A picture and the people in it, on a canvas. Coordinates are the picture's pixels, whose centres lie at whole numbers and a half. */

const OUTLINE = "rgba(10, 14, 13, 0.75)";
const MOST_PIXELS_PER_POINT = 2;

/** Gives the canvas as many pixels as it shows; true where that changed it. */
export function fitted(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, MOST_PIXELS_PER_POINT);
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (!width || !height || (canvas.width === width && canvas.height === height)) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

/** `picture` may be null: then people stand on a plain ground. `size` is the picture's width and height before it was scaled. */
export function draw(canvas, picture, people, size, skeleton) {
  fitted(canvas);
  const context = canvas.getContext("2d");
  const scale = scaleFor(canvas, size);
  const left = (canvas.width - size[0] * scale) / 2;
  const top = (canvas.height - size[1] * scale) / 2;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (picture) context.drawImage(picture, left, top, size[0] * scale, size[1] * scale);
  else ground(context, left, top, size[0] * scale, size[1] * scale);
  if (!skeleton) return;
  context.setTransform(scale, 0, 0, scale, left, top);
  for (const person of [...people].reverse()) drawPerson(context, person, skeleton, scale);
}

/** All of the picture is seen; a pixel more or less, which rounding costs, is not worth a stripe at the edge. */
function scaleFor(canvas, size) {
  const [across, down] = [canvas.width / size[0], canvas.height / size[1]];
  return Math.abs(across / down - 1) < 0.01 ? Math.max(across, down) : Math.min(across, down);
}

function ground(context, left, top, width, height) {
  const shade = context.createLinearGradient(0, top, 0, top + height);
  shade.addColorStop(0, "#131a18");
  shade.addColorStop(1, "#1d2724");
  context.fillStyle = shade;
  context.fillRect(left, top, width, height);
}

function drawPerson(context, person, skeleton, scale) {
  const points = person.keypoints;
  const found = points.filter((point) => point && point[0] !== null);
  if (!found.length) return;
  const stroke = strokeFor(found, scale);
  const limbs = skeleton.limbs.filter((limb) => points[limb.start] && points[limb.end]);
  context.lineCap = "round";
  for (const [extra, colourOf] of [[2.4 / scale, () => OUTLINE], [0, (thing) => thing.colour]]) {
    for (const limb of limbs) line(context, points[limb.start], points[limb.end], stroke + extra, colourOf(limb));
    points.forEach((point, k) => {
      if (point && point[0] !== null) disc(context, point, stroke * 0.95 + extra / 2, colourOf({ colour: skeleton.colours[k] }));
    });
  }
  if (person.id !== null) label(context, found, String(person.id), scale);
}

/** Grows with the person, within what can be seen well. */
function strokeFor(found, scale) {
  const xs = found.map((point) => point[0]);
  const ys = found.map((point) => point[1]);
  const extent = Math.hypot(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  return Math.min(Math.max(extent / 55, 2 / scale), 7 / scale);
}

function line(context, a, b, width, colour) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

function disc(context, point, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(point[0], point[1], radius, 0, 2 * Math.PI);
  context.fill();
}

function label(context, found, text, scale) {
  const highest = found.reduce((a, b) => (b[1] < a[1] ? b : a));
  const size = 13 / scale;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const width = context.measureText(text).width + size;
  const y = Math.max(highest[1] - 2 * size, size);
  context.fillStyle = OUTLINE;
  context.beginPath();
  context.roundRect(highest[0] - width / 2, y - size * 0.8, width, size * 1.6, size * 0.5);
  context.fill();
  context.fillStyle = "#ffffff";
  context.fillText(text, highest[0], y + size * 0.06);
}

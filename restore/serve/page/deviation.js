// How dark a map of standard deviations is.

// Percent of full scale at which the file of a map is white.
export const WHITE = 25;
const SIDE = 512; // pixels of the copy that is looked at
const MOST = 32; // 8 bits have no more to show

// Factor by which a map can be brightened before more than half a percent of what differs is white.
export function brightness(image) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);

  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const levels = [];
  for (let at = 0; at < data.length; at += 4) {
    const level = Math.max(data[at], data[at + 1], data[at + 2]);
    if (level) levels.push(level);
  }
  if (!levels.length) return 1;
  levels.sort((one, other) => one - other);
  const high = levels[Math.floor(0.995 * (levels.length - 1))];
  return Math.max(1, Math.min(MOST, Math.floor(255 / high)));
}

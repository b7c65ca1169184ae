// A ZIP without compression, which pictures have already (APPNOTE.TXT of PKWARE, 4.3).

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// numbers as [value, bytes], little-endian
function record(numbers) {
  const bytes = [];
  for (const [value, count] of numbers) {
    for (let at = 0; at < count; at += 1) bytes.push(Math.floor(value / 256 ** at) & 255);
  }
  return Uint8Array.from(bytes);
}

// A name that every system can have, and that no file before has.
function free(name, taken) {
  const safe = name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").replace(/^\.+/, "_");
  let found = safe;
  for (let number = 2; taken.has(found.toLowerCase()); number += 1) {
    found = safe.replace(/(\.[^.]*)?$/, `-${number}$1`);
  }
  taken.add(found.toLowerCase());
  return found;
}

export async function zipped(files) {
  const parts = [];
  const entries = [];
  const taken = new Set();
  let offset = 0;
  for (const file of files) {
    const data = new Uint8Array(await file.blob.arrayBuffer());
    const text = new TextEncoder().encode(free(file.name, taken));
    const shared = [
      [20, 2], [0x0800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(data), 4], [data.length, 4],
      [data.length, 4], [text.length, 2], [0, 2],
    ];
    const head = record([[0x04034b50, 4], ...shared]);
    parts.push(head, text, data);
    entries.push(
      record([[0x02014b50, 4], [20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]),
      text,
    );
    offset += head.length + text.length + data.length;
  }
  if (offset > 4e9) throw new Error("The results are too large for one ZIP; download them one by one.");
  const length = entries.reduce((sum, one) => sum + one.length, 0);
  const count = entries.length / 2;
  const end = record([
    [0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [offset, 4], [0, 2],
  ]);
  return new Blob([...parts, ...entries, end], { type: "application/zip" });
}

// The naming rule once more, written from the design's "Bucket" section alone.
// Reads a JSON array of [key, index, occurrence] from standard input, writes a JSON array of names.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const escape = (character) => "%" + character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");

function nameOf([key, index, occurrence]) {
  if (key === null || key === "") return `@${index}`;
  let name = encodeURIComponent(key).replace(/[!'()*]/g, escape).replace(/^[._]/, escape).replace(/\.$/, escape);
  if (name.length > 200) {
    const digest = createHash("sha256").update(key, "utf8").digest("hex");
    name = name.slice(0, 160).replace(/%[0-9A-F]?$/, "") + "@" + digest.slice(0, 32);
  }
  return occurrence === 1 ? name : `${name}@${occurrence}`;
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(nameOf)));

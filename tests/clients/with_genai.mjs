// Run with Google's SDK for JavaScript. Prints the batch's name.
import { GoogleGenAI } from "@google/genai";

const requests = Object.entries(JSON.parse(process.argv[2]));
const lines = requests.map(([key, text]) => ({ key, request: { contents: [{ parts: [{ text }] }] } }));
const file = new Blob([lines.map((line) => JSON.stringify(line) + "\n").join("")]);
const client = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY });
const source = await client.files.upload({ file, config: { mimeType: "jsonl" } });
const model = "gemini-2.5-flash";
const batch = await client.batches.create({ model, src: source.name, config: { displayName: "js" } });
while (!["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"].includes((await client.batches.get({ name: batch.name })).state)) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}
console.log(batch.name);

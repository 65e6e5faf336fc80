// AWS's SDK for JavaScript: results by their keys, in the order of the manifest.
// `node by_key.mjs BUCKET PREFIX BATCH`, with the variables of AWS.
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";

export async function* results(s3, bucket, prefix, batch) {
  const read = async (name) =>
    (await s3.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}/${batch}/${name}` }))).Body.transformToString();
  for (const line of (await read("manifest.jsonl")).split("\n").filter(Boolean)) {
    const entry = JSON.parse(line);
    // `object` is the name itself: nothing is encoded again.
    yield [entry.key, JSON.parse(await read(entry.object))];
  }
}

// A server that is not AWS wants its buckets in the path.
const s3 = new S3Client({ forcePathStyle: Boolean(process.env.AWS_ENDPOINT_URL) });
for await (const [key, document] of results(s3, ...process.argv.slice(2))) {
  console.log(JSON.stringify([key, document.text]));
}

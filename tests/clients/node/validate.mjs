// Compiles each schema of a file, by kind, with ajv in strict mode; prints each rejection on a line.

import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

for (const [kind, schema] of Object.entries(JSON.parse(readFileSync(process.argv[2], "utf8")))) {
  const ajv = new Ajv2020.default({ strict: true, allErrors: true });
  addFormats.default(ajv);
  try {
    ajv.compile(schema);
  } catch (error) {
    console.log(`${kind}: ${error.message}`);
  }
}

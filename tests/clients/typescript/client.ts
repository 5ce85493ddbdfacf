// Calls every route through the types that were generated from openapi.json, and prints what it got as JSON.
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./api.js";

type Schemas = components["schemas"];
declare const process: { argv: string[]; exitCode: number };
declare const console: { log(text: string): void; error(text: unknown): void };

// what has to be there, and nothing that may be left out: compiling this is half of the test
const row: Schemas["PurchaseRequest"] = {
  user_id: null,
  session_id: "s-1",
  product_id: "p-1",
  price: 130.76,
  hour: 12,
  day_of_week: 1,
  is_weekend: 0,
};
const fullRow: Schemas["PurchaseRequest"] = { ...row, user_id: 7, brand: null, max_price: null, observe: false };
const event: Schemas["ShopEvent"] = {
  event_type: "view",
  product_id: "p-1",
  price: 130.76,
  user_id: "u-1",
  user_session: "s-1",
  event_id: "typescript-1",
};
const command: Schemas["CommandBody"] = {};
const cancel: Schemas["CancelBody"] = {};
const rollout: Schemas["StartBody"] = { version: 99 };
const job: Schemas["JobBody"] = { input: "nowhere.parquet" };
const inputs: Schemas["Tensor"][] = Object.entries({ price: 130.76, hour: 12, day_of_week: 1, is_weekend: 0 }).map(
  ([name, value]) => ({ name, datatype: "FP64", shape: [1], data: [value] }),
);
const tensors: Schemas["InferBody"] = { inputs };

// names of operations and headers of answers are part of the types, too
type Answer = operations["predictPurchase"]["responses"][200];
const headerNames: Extract<keyof Answer["headers"], string>[] = ["X-Prediction-Id", "X-Model-Version", "X-Route-Reason"];
type Waiting = operations["inferModel"]["responses"][503]["headers"]["Retry-After"];
const longestWait: Waiting = 60;
// @ts-expect-error a version is a number
export const version: Answer["headers"]["X-Model-Version"] = "three";
// @ts-expect-error what is required is missing
export const nothing: Schemas["PurchaseRequest"] = { user_id: null };
// @ts-expect-error a row must have a session
export const nobody: Schemas["PurchaseRequest"] = { ...row, session_id: null };

function need<T>(result: { data?: T; error?: unknown; response: Response }): T {
  if (result.data === undefined) {
    throw new Error(`${result.response.url}: ${result.response.status} ${JSON.stringify(result.error)}`);
  }
  return result.data;
}

// a table may be answered as CSV or Arrow, too: those are strings to the types
function needJson<T>(result: { data?: T; error?: unknown; response: Response }): Exclude<T, string> {
  const data = need(result);
  if (typeof data === "string") {
    throw new Error(`${result.response.url}: JSON was expected`);
  }
  return data as Exclude<T, string>;
}

function probability(answer: Schemas["InferResponse"]): unknown {
  return answer.outputs.find((output) => output.name === "probability")?.data?.[0];
}

function refused(result: { error?: Schemas["Problem"]; response: Response }): [number, string] {
  const problem = result.error;
  if (problem === undefined) {
    throw new Error(`${result.response.url}: ${result.response.status}, a refusal was expected`);
  }
  return [problem.status, problem.type.replace("urn:scorecat:problem:", "")];
}

async function main(url: string): Promise<unknown> {
  const api = createClient<paths>({ baseUrl: url });
  const model = "purchase";

  const predicted = await api.POST("/predict_purchase", {
    body: row,
    params: { header: { "X-Request-Timeout-Seconds": longestWait } },
  });
  const detailed = need(
    await api.POST("/predict_purchase", { body: fullRow, params: { query: { detail: true, explain: true } } }),
  );
  const reasons = "features" in detailed ? (detailed.explanation?.reasons.map((reason) => reason.feature) ?? []) : [];
  const badRow = await api.POST("/predict_purchase", { body: { ...row, price: 0 } });
  const pointers = badRow.error?.errors?.map((error) => error.pointer) ?? [];

  const table = needJson(
    await api.POST("/invocations", {
      body: { dataframe_split: { columns: Object.keys(row), data: [Object.values(row)] } },
    }),
  );
  const csv = needJson(
    await api.POST("/invocations", {
      body: "price,hour,day_of_week,is_weekend\n130.76,12,1,0\n",
      bodySerializer: (body) => String(body),
      headers: { "Content-Type": "text/csv" },
    }),
  );
  const inferred = needJson(
    await api.POST("/v2/models/{model}/infer", { params: { path: { model } }, body: tensors }),
  );
  const [version] = need(await api.GET("/v2/models/{model}", { params: { path: { model } } })).versions;
  const path = { model, version: version ?? "" };
  const sameAgain = needJson(
    await api.POST("/v2/models/{model}/versions/{version}/infer", { params: { path }, body: tensors }),
  );
  const recorded = need(await api.POST("/v1/events", { body: [event] }));
  const rolloutId = { params: { path: { rollout_id: 999 } } };
  const jobId = { params: { path: { job_id: "none" } } };

  return {
    probability: need(predicted).purchase_probability,
    headers: headerNames.map((name) => predicted.response.headers.get(name) !== null),
    reasons: reasons.length,
    pointers,
    table: table.predictions[0],
    csv: csv.predictions[0],
    inferred: probability(inferred),
    sameAgain: probability(sameAgain),
    recorded: recorded.recorded + recorded.duplicate,
    alive: [
      need(await api.GET("/livez")).status,
      need(await api.GET("/readyz")).model,
      need(await api.GET("/ping")).status,
      need(await api.GET("/health")).status,
      need(await api.GET("/v2/health/live")).live,
      need(await api.GET("/v2/health/ready")).ready,
      need(await api.GET("/v2")).name,
      need(await api.GET("/v2/models/{model}/ready", { params: { path: { model } } })).ready,
      need(await api.GET("/v2/models/{model}/versions/{version}", { params: { path } })).name,
      need(await api.GET("/v2/models/{model}/versions/{version}/ready", { params: { path } })).ready,
      need(await api.GET("/version", { parseAs: "text" })).length > 0,
    ],
    listed: [
      need(await api.GET("/v1/models")).models.map((each) => each.name),
      need(await api.GET("/v1/rollouts", { params: { query: { limit: 5 } } })).rollouts,
      need(await api.GET("/v1/jobs")).jobs,
    ],
    refused: [
      refused(await api.POST("/v1/rollouts", { body: rollout })),
      refused(await api.GET("/v1/rollouts/{rollout_id}", rolloutId)),
      refused(await api.GET("/v1/rollouts/{rollout_id}/history", rolloutId)),
      refused(await api.POST("/v1/rollouts/{rollout_id}/pause", { ...rolloutId, body: command })),
      refused(await api.POST("/v1/rollouts/{rollout_id}/resume", rolloutId)),
      refused(await api.POST("/v1/rollouts/{rollout_id}/promote", rolloutId)),
      refused(await api.POST("/v1/rollouts/{rollout_id}/abort", { ...rolloutId, body: { who: "anna" } })),
      refused(await api.GET("/v1/jobs/{job_id}", jobId)),
      refused(await api.POST("/v1/jobs/{job_id}/cancel", { ...jobId, body: cancel })),
      refused(
        await api.GET("/v1/jobs/{job_id}/results/{name}", { params: { path: { job_id: "none", name: "part-0" } } }),
      ),
    ],
    job: refused(await api.POST("/v1/jobs", { body: job }))[0] >= 400,
  };
}

main(process.argv[2] ?? "").then(
  (found) => console.log(JSON.stringify(found)),
  (failure: unknown) => {
    console.error(failure);
    process.exitCode = 1;
  },
);

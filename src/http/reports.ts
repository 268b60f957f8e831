import { renderHtml } from "../core/evaluation/html.ts";
import { renderMarkdown } from "../core/evaluation/markdown.ts";
import type { EvaluationReport } from "../core/evaluation/report.ts";
import { evaluationRow } from "../graphql/evaluation.ts";
import { notFound, type RegistryContext } from "../registry/context.ts";
import { readReport } from "../registry/evaluation-reports.ts";
import { type Exchange, methodNotAllowed } from "./answer.ts";
import { identify } from "./identity.ts";

const PATH = /^\/evaluations\/([\w-]{1,200})\/report\.(html|json|md)$/;

/**
 * The page holds its style and its plots itself and runs nothing, so that is all it is allowed: no script, no request,
 * no form, no frame around it, and by `sandbox` an origin of its own.
 */
const PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'; sandbox";

type Form = "html" | "json" | "md";

const FORMS: Readonly<Record<Form, { type: string; write: (report: EvaluationReport) => string }>> = {
  html: { type: "text/html; charset=utf-8", write: renderHtml },
  json: {
    type: "application/json; charset=utf-8",
    write: (report) => `${JSON.stringify(report, null, 2)}\n`,
  },
  md: { type: "text/markdown; charset=utf-8", write: renderMarkdown },
};

/** Which report a path asks for, and in which form; null for other paths. */
export function reportPath(pathname: string): { readonly id: string; readonly form: Form } | null {
  const [, id, form] = PATH.exec(pathname) ?? [];
  return id === undefined ? null : { id, form: form as Form };
}

/**
 * `/evaluations/<id>/report.html`, `.json` and `.md`, with the id as the API writes it, for those who may see the
 * evaluation. Throws NOT_FOUND, NO_REPORT.
 */
export async function handleReport(
  registry: RegistryContext,
  exchange: Exchange,
  { id, form }: { readonly id: string; readonly form: Form },
): Promise<void> {
  const { request, response } = exchange;
  if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed(exchange, "GET, HEAD");
  const { viewer } = await identify(registry, request.headers);
  const row = rowOf(id);
  if (row === null) throw notFound("The evaluation");
  const { type, write } = FORMS[form];
  const text = write(await readReport({ ...registry, viewer }, row));
  if (form === "html") response.setHeader("content-security-policy", PAGE_POLICY);
  response.writeHead(200, {
    "content-type": type,
    "content-length": Buffer.byteLength(text),
    // A report never changes, but who may see it can.
    "cache-control": "private, no-cache",
  });
  response.end(request.method === "HEAD" ? undefined : text);
}

function rowOf(id: string): string | null {
  try {
    return evaluationRow(id);
  } catch {
    // Not an id that this API made.
    return null;
  }
}

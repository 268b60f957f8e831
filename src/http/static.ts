import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { AppError } from "../core/errors.ts";
import { type Exchange, methodNotAllowed } from "./answer.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

interface Found {
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
}

/** Serves the built console from `root`. A path of the console's router gets index.html. */
export async function handleStatic(root: string, exchange: Exchange): Promise<void> {
  const { request, response, url } = exchange;
  if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed(exchange, "GET, HEAD");
  const file = (await findFile(root, url.pathname)) ?? (await findPage(root, exchange));
  const etag = `"${file.size.toString(36)}-${Math.trunc(file.mtimeMs).toString(36)}"`;
  response.setHeader("etag", etag);
  // Vite puts a hash of the content into the names below assets/.
  const immutable = url.pathname.startsWith("/assets/") && !file.path.endsWith(".html");
  response.setHeader("cache-control", immutable ? "public, max-age=31536000, immutable" : "no-cache");
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304).end();
    return;
  }
  response.writeHead(200, {
    "content-type": TYPES[extname(file.path)] ?? "application/octet-stream",
    "content-length": file.size,
  });
  if (request.method === "HEAD") response.end();
  else await pipeline(createReadStream(file.path), response);
}

/** A file below `root`, behind all symbolic links; null for anything else. */
async function findFile(root: string, pathname: string): Promise<Found | null> {
  const wanted = decodePath(pathname);
  if (wanted === null || wanted.endsWith("/")) return null;
  try {
    const [base, path] = await Promise.all([realpath(root), realpath(join(root, wanted))]);
    if (!path.startsWith(base + sep)) return null;
    const facts = await stat(path);
    return facts.isFile() ? { path, size: facts.size, mtimeMs: facts.mtimeMs } : null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ENAMETOOLONG") return null;
    throw error;
  }
}

function decodePath(pathname: string): string | null {
  try {
    const path = decodeURIComponent(pathname);
    const parts = path.split(/[/\\]/);
    return path.includes("\0") || parts.includes("..") ? null : path;
  } catch {
    return null;
  }
}

async function findPage(root: string, { request, url }: Exchange): Promise<Found> {
  const page = await findFile(root, "/index.html");
  if (!page) {
    throw new AppError(
      "NOT_FOUND",
      "The console is not built. Build it with `npm run setup`; the API is at /graphql.",
    );
  }
  // Names of models hold dots (`/models/me/model-1.5`), so only what ends like a file that is served is one.
  const asksForPage = request.headers.accept?.includes("text/html") ?? false;
  if (
    decodePath(url.pathname) !== null &&
    (url.pathname === "/" || (asksForPage && !(extname(url.pathname) in TYPES)))
  ) {
    return page;
  }
  throw new AppError(
    "NOT_FOUND",
    `There is nothing at ${url.pathname}. The API is at /graphql, the console at /.`,
  );
}

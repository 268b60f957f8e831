import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { AppError } from "../core/errors.ts";
import type { WorkerError } from "./pool.ts";
import { unpackError } from "./travel.ts";

/** What the end of its stderr may add to a message. */
const MAX_STDERR = 1_000;

type Failed = { readonly type: "failed"; readonly error: WorkerError };

export interface ChildProgram {
  /** URL of the program's source. */
  readonly url: URL;
  /** For people: "the process that uses the device". */
  readonly what: string;
  /** What to do when it dies without a word. */
  readonly advice: string;
}

/**
 * A process of ours for what may crash or block, as a stream of its messages. Ended by `kill`, and by itself after its
 * last message.
 */
export class Child<To, From extends { readonly type: string }> {
  readonly #program: ChildProgram;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #received: From[] = [];
  #stderr = "";
  #ended: { code: number | null; signal: NodeJS.Signals | null } | null = null;
  #failure: Error | null = null;
  #wake: () => void = () => {};

  constructor(program: ChildProgram) {
    this.#program = program;
    // Compiled for publishing, the program lies beside this file as .js.
    const url = import.meta.url.endsWith(".ts")
      ? program.url
      : new URL(program.url.href.replace(/\.ts$/, ".js"));
    this.#child = fork(fileURLToPath(url), [], {
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR);
    });
    this.#child.on("message", (message: From) => {
      this.#received.push(message);
      this.#wake();
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#failure = error;
        this.#wake();
        resolve();
      });
      this.#child.once("exit", (code, signal) => {
        this.#ended = { code, signal };
        this.#wake();
        resolve();
      });
    });
  }

  send(message: To): void {
    // A process that died meanwhile is noticed by its end.
    this.#child.send(message as never, () => {});
  }

  /** The next message. @throws DEVICE_FAILED where the process ended without a last word, and what it was sent */
  async next(): Promise<Exclude<From, Failed>> {
    while (true) {
      const message = this.#received.shift();
      if (message?.type === "failed") {
        throw unpackError((message as unknown as Failed).error, this.#program.what);
      }
      if (message) return message as Exclude<From, Failed>;
      if (this.#failure) throw this.#failure;
      if (this.#ended) throw this.#crashed(this.#ended);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Wakes up whoever waits in `next`, with a reason. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#wake();
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #crashed({ code, signal }: { code: number | null; signal: string | null }): AppError {
    const { what, advice } = this.#program;
    const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
    const lines = this.#stderr.split("\n").filter((line) => line.trim() !== "");
    const line = lines.find((text) => /error/i.test(text)) ?? lines.at(-1);
    const said = line === undefined ? "" : ` It said: ${line.trim()}`;
    return new AppError(
      "DEVICE_FAILED",
      `${what} ended ${how}: its driver is broken, or the machine is out of memory. ${advice}${said}`,
      { details: { code, signal } },
    );
  }
}

/** Programs and what belongs to them, in several languages. */
export const CODE: readonly string[] = [
  `def merge_intervals(intervals):
    """Return the union of half-open intervals as a sorted list without overlaps.

    >>> merge_intervals([(5, 8), (1, 3), (2, 4)])
    [(1, 4), (5, 8)]
    """
    merged = []
    for start, end in sorted(intervals):
        if start >= end:
            raise ValueError(f"empty interval: {start} to {end}")
        if merged and start <= merged[-1][1]:
            last_start, last_end = merged[-1]
            merged[-1] = (last_start, max(last_end, end))
        else:
            merged.append((start, end))
    return merged


if __name__ == "__main__":
    import random

    numbers = [(n, n + random.randint(1, 9)) for n in range(0, 100, 7)]
    print(len(numbers), "intervals become", len(merge_intervals(numbers)))`,

  `// Groups items by a key, keeping the order in which keys were first seen.
export function groupBy<Item, Key>(items: Iterable<Item>, keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

const orders = [
  { id: 1, city: "Oslo", total: 40 },
  { id: 2, city: "Bergen", total: 15 },
  { id: 3, city: "Oslo", total: 25 },
];

const lines: string[] = [];
for (const [city, list] of groupBy(orders, (order) => order.city)) {
  const sum = list.reduce((total, order) => total + order.total, 0);
  lines.push(city + ": " + list.length + " orders, " + sum.toFixed(2));
}
// Oslo: 2 orders, 65.00
// Bergen: 1 orders, 15.00`,

  `use std::collections::HashMap;
use std::io::{self, BufRead};

/// Counts words, ignoring case and punctuation at either end.
fn count_words<R: BufRead>(reader: R) -> io::Result<HashMap<String, usize>> {
    let mut counts = HashMap::new();
    for line in reader.lines() {
        let line = line?;
        for word in line.split_whitespace() {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            if !word.is_empty() {
                *counts.entry(word).or_insert(0) += 1;
            }
        }
    }
    Ok(counts)
}

fn main() -> io::Result<()> {
    let counts = count_words(io::stdin().lock())?;
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (word, count) in sorted.iter().take(10) {
        println!("{count:6} {word}");
    }
    Ok(())
}`,

  `-- Customers who bought in each of the last three months, with what they spent.
WITH monthly AS (
    SELECT
        customer_id,
        date_trunc('month', ordered_at) AS month,
        SUM(quantity * unit_price) AS spent
    FROM orders
    JOIN order_lines USING (order_id)
    WHERE ordered_at >= date_trunc('month', CURRENT_DATE) - INTERVAL '3 months'
      AND ordered_at < date_trunc('month', CURRENT_DATE)
      AND status <> 'cancelled'
    GROUP BY customer_id, month
)
SELECT
    c.name,
    COUNT(*) AS months,
    ROUND(SUM(m.spent), 2) AS total,
    MAX(m.spent) AS best_month
FROM monthly AS m
JOIN customers AS c ON c.customer_id = m.customer_id
GROUP BY c.customer_id, c.name
HAVING COUNT(*) = 3
ORDER BY total DESC, c.name
LIMIT 20;`,

  `#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A growing buffer of bytes. All functions return 0 on success and -1 when memory runs out. */
struct buffer {
    unsigned char *data;
    size_t length;
    size_t capacity;
};

static int buffer_append(struct buffer *b, const void *bytes, size_t n)
{
    if (b->capacity - b->length < n) {
        size_t wanted = b->capacity ? b->capacity * 2 : 64;
        while (wanted - b->length < n)
            wanted *= 2;
        unsigned char *grown = realloc(b->data, wanted);
        if (grown == NULL)
            return -1;
        b->data = grown;
        b->capacity = wanted;
    }
    memcpy(b->data + b->length, bytes, n);
    b->length += n;
    return 0;
}

int main(void)
{
    struct buffer b = {0};
    for (int i = 0; i < 1000; i++)
        if (buffer_append(&b, "abc", 3) != 0)
            return EXIT_FAILURE;
    printf("%zu of %zu bytes used\\n", b.length, b.capacity);
    free(b.data);
    return EXIT_SUCCESS;
}`,

  `package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// check calls every function at once and returns the first error, if there is any.
func check(ctx context.Context, checks map[string]func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	errs := make(chan error, len(checks))
	var wg sync.WaitGroup
	for name, fn := range checks {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := fn(ctx); err != nil {
				errs <- fmt.Errorf("%s: %w", name, err)
			}
		}()
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func main() {
	err := check(context.Background(), map[string]func(context.Context) error{
		"disk":  func(context.Context) error { return nil },
		"queue": func(context.Context) error { return fmt.Errorf("no answer") },
	})
	fmt.Println("result:", err)
}`,

  `#!/usr/bin/env bash
# Keeps the newest seven backups of a folder and removes older ones.
set -euo pipefail

source_dir=\${1:?usage: backup.sh FOLDER TARGET}
target_dir=\${2:?usage: backup.sh FOLDER TARGET}
stamp=$(date +%Y-%m-%d_%H%M%S)
archive="$target_dir/backup-$stamp.tar.gz"

mkdir -p "$target_dir"
tar --create --gzip --file "$archive.part" --directory "$source_dir" .
mv "$archive.part" "$archive"
echo "wrote $archive ($(du -h "$archive" | cut -f1))"

# Names sort by date, so the oldest come first.
find "$target_dir" -maxdepth 1 -name 'backup-*.tar.gz' -print0 |
  sort -z |
  head -z -n -7 |
  while IFS= read -r -d '' old; do
    echo "removing $old"
    rm -- "$old"
  done`,

  `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Opening hours</title>
    <style>
      body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
      table { border-collapse: collapse; width: 100%; }
      th, td { text-align: left; padding: 0.4rem; border-bottom: 1px solid #ddd; }
      .closed { color: #888; }
      @media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }
    </style>
  </head>
  <body>
    <h1>When are we open?</h1>
    <table>
      <tr><th>Day</th><th>Hours</th></tr>
      <tr><td>Monday to Friday</td><td>8:00 to 18:30</td></tr>
      <tr><td>Saturday</td><td>9:00 to 14:00</td></tr>
      <tr class="closed"><td>Sunday</td><td>closed</td></tr>
    </table>
    <p>On public holidays please <a href="tel:+4930123456">call us</a>.</p>
  </body>
</html>`,

  `import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;

/** Evaluates expressions in postfix notation, such as "3 4 + 2 *". */
public final class Postfix {
    private interface Operation {
        double apply(double left, double right);
    }

    private static final Map<String, Operation> OPERATIONS = Map.of(
            "+", (a, b) -> a + b,
            "-", (a, b) -> a - b,
            "*", (a, b) -> a * b,
            "/", (a, b) -> a / b);

    public static double evaluate(String expression) {
        Deque<Double> stack = new ArrayDeque<>();
        for (String token : expression.trim().split("\\\\s+")) {
            Operation operation = OPERATIONS.get(token);
            if (operation == null) {
                stack.push(Double.parseDouble(token));
                continue;
            }
            if (stack.size() < 2) {
                throw new IllegalArgumentException("operator " + token + " needs two numbers");
            }
            double right = stack.pop();
            double left = stack.pop();
            stack.push(operation.apply(left, right));
        }
        return stack.pop();
    }

    public static void main(String[] args) {
        System.out.println(evaluate("3 4 + 2 *")); // 14.0
    }
}`,

  `diff --git a/src/cart.js b/src/cart.js
index 4f2d1c7..a91be03 100644
--- a/src/cart.js
+++ b/src/cart.js
@@ -12,9 +12,14 @@ export class Cart {
   add(product, quantity = 1) {
-    this.lines.push({ product, quantity });
+    const line = this.lines.find((entry) => entry.product.id === product.id);
+    if (line) line.quantity += quantity;
+    else this.lines.push({ product, quantity });
     this.changed();
   }

   total() {
-    return this.lines.reduce((sum, line) => sum + line.product.price * line.quantity, 0);
+    // Prices are in cents: adding fractions of euros gave 19.989999999999998.
+    return this.lines.reduce((sum, { product, quantity }) => sum + product.cents * quantity, 0);
   }

Commit message: Count a product that is added twice as one line, and keep prices in cents

Two lines of the same product confused the discount, which looks at quantities line by line. The database column keeps its name until the next migration; the reader converts.`,

  `name: tests
on:
  push:
    branches: [main]
  pull_request:

jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        node: [22, 24]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-node@v4
        with:
          node-version: \${{ matrix.node }}
          cache: npm
      - run: npm ci
      - run: npm run lint
      - name: Unit tests
        run: npm test -- --reporter=verbose
        env:
          TZ: UTC
          LOG_LEVEL: warn
      - name: Keep the report where a test failed
        if: failure()
        uses: actions/upload-artifact@v4
        with:
          name: report-\${{ matrix.node }}
          path: test-results/
          retention-days: 7

# Node 20 was dropped in May: its security support ends before our next release.`,

  `module Calendar (Weekday (..), weekday, isLeap, daysIn) where

-- | Days of the week, beginning as ISO 8601 does.
data Weekday = Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
  deriving (Eq, Ord, Show, Enum, Bounded)

isLeap :: Int -> Bool
isLeap year
  | year \`mod\` 400 == 0 = True
  | year \`mod\` 100 == 0 = False
  | otherwise = year \`mod\` 4 == 0

daysIn :: Int -> Int -> Int
daysIn year month = case month of
  2 -> if isLeap year then 29 else 28
  m | m \`elem\` [4, 6, 9, 11] -> 30
    | otherwise -> 31

-- | Zeller's congruence, with January and February counted to the year before.
weekday :: Int -> Int -> Int -> Weekday
weekday year month day = toEnum ((h + 5) \`mod\` 7)
  where
    (y, m) = if month < 3 then (year - 1, month + 12) else (year, month)
    (century, rest) = y \`divMod\` 100
    h = (day + 13 * (m + 1) \`div\` 5 + rest + rest \`div\` 4 + century \`div\` 4 + 5 * century) \`mod\` 7`,

  `## Why does this test fail only at night?

The test builds a date from today and compares it with a text:

    expect(formatDay(clock.now())).toBe("2024-03-30")

There are two mistakes in one line. The first is easy to see: tomorrow the text is wrong. The second one hides behind it. \`formatDay\` calls \`toISOString()\`, which gives the day in UTC, while the page shows local time. Between midnight and one o'clock in Berlin it is still yesterday in UTC.

What to do:

1. Pass the date in: \`formatDay(new Date(2024, 2, 30, 0, 30))\`. A function that asks the clock cannot be tested.
2. Use \`getFullYear()\`, \`getMonth() + 1\` and \`getDate()\`, padded with zeros.
3. Run the tests once with \`TZ=Pacific/Auckland\` and once with \`TZ=America/Los_Angeles\`. If both pass, the code does not depend on where it runs.`,
];

/** Structured data, tables and arithmetic. */
export const DATA: readonly string[] = [
  `{
  "id": "trip-7041",
  "title": "Three days in the Tatra mountains",
  "dates": { "from": "2025-06-12", "to": "2025-06-14" },
  "people": [
    { "name": "Ewa Nowak", "age": 34, "vegetarian": true },
    { "name": "Jonas Berg", "age": 41, "vegetarian": false },
    { "name": "Lia Berg", "age": 9, "vegetarian": false }
  ],
  "stages": [
    { "day": 1, "start": "Zakopane", "end": "Five Lakes hut", "km": 11.4, "climb_m": 860, "hours": 5.5 },
    { "day": 2, "start": "Five Lakes hut", "end": "Sea Eye hut", "km": 7.9, "climb_m": 520, "hours": 4.0 },
    { "day": 3, "start": "Sea Eye hut", "end": "Palenica", "km": 8.7, "climb_m": 40, "hours": 2.25 }
  ],
  "cost": { "currency": "PLN", "huts": 540, "bus": 96, "food": null },
  "notes": ["Snow on the north side until mid June", "Book the first hut early"],
  "confirmed": false
}`,

  `| Station | Line | First train | Last train | Every |
|---|---|---|---|---|
| Harbour | 1, 4 | 04:52 | 00:38 | 6 min |
| Old Town | 1, 2, 3 | 04:58 | 00:44 | 4 min |
| University | 2 | 05:10 | 23:56 | 8 min |
| Stadium | 3 | 05:05 | 00:20 | 10 min |
| Airport | 4 | 04:30 | 01:05 | 15 min |

How long does it take from the harbour to the airport? Line 4 needs 27 minutes without a change. A train at 08:03 arrives at 08:30; the next one leaves at 08:18. On days with a match the stadium has a train every five minutes from two hours before kick-off, and line 3 does not stop at Old Town in the hour after the match. Tickets are valid for ninety minutes in one direction, including changes.`,

  `Problem: A tank holds 1,200 litres. One pump fills it in 6 hours, a second one in 4 hours, and a drain empties the full tank in 12 hours. How long does it take to fill the empty tank with both pumps running and the drain open?

Solution: In one hour the first pump brings 1200 / 6 = 200 litres and the second one 1200 / 4 = 300 litres. The drain takes 1200 / 12 = 100 litres. Together that is 200 + 300 - 100 = 400 litres an hour. The tank needs 1200 / 400 = 3 hours.

Check: in 3 hours the pumps bring 3 * 500 = 1500 litres and the drain takes 3 * 100 = 300 litres; 1500 - 300 = 1200. The answer is 3 hours. With the drain closed it would be 1200 / 500 = 2.4 hours, or 2 hours and 24 minutes.`,

  `date,station,temperature_c,rain_mm,wind_kmh,remark
2024-11-01,Nordhaven,8.4,0.0,14,
2024-11-02,Nordhaven,7.9,2.6,22,
2024-11-03,Nordhaven,6.1,11.8,47,"gusts up to 81, sensor shaken"
2024-11-04,Nordhaven,5.5,3.2,31,
2024-11-05,Nordhaven,,0.4,18,"thermometer replaced, no value"
2024-11-06,Nordhaven,4.8,0.0,9,
2024-11-07,Nordhaven,3.9,0.0,6,fog until 11
2024-11-08,Nordhaven,2.7,0.0,5,first frost
2024-11-09,Nordhaven,3.3,1.1,12,

Summary of nine days: rain on five of them, 19.1 mm in all, most of it on 3 November. The mean of the eight temperatures is 5.3 degrees. The missing value was not replaced by an estimate. Wind above 40 km/h was measured once; the storm had been announced for the evening and arrived about three hours early.`,

  `7 + 8 = 15
15 - 9 = 6
6 * 12 = 72
72 / 8 = 9
9 * 9 = 81
81 + 144 = 225
sqrt(225) = 15
15 * 15 * 15 = 3375
3375 / 27 = 125
125 = 5 * 5 * 5
2^10 = 1024
1024 - 1000 = 24
24 = 2 * 2 * 2 * 3
1/2 + 1/3 = 5/6
5/6 - 1/4 = 7/12
0.1 + 0.2 = 0.3
12.5 % of 640 = 80
3 : 5 = 12 : 20
log10(1000) = 3
100 - 99 + 98 - 97 = 2
1 + 2 + 3 + ... + 100 = 100 * 101 / 2 = 5050
47 * 53 = 50 * 50 - 3 * 3 = 2491
1001 = 7 * 11 * 13
999 * 999 = 998001`,

  `2024-08-14T07:58:02.114Z INFO  server   listening on 0.0.0.0:8080 (pid 4121)
2024-08-14T07:58:09.377Z INFO  request  GET /api/models 200 12ms
2024-08-14T07:58:11.020Z INFO  request  POST /api/jobs 201 48ms job=5f1c
2024-08-14T07:58:11.402Z INFO  worker   job=5f1c started, 3 of 8 threads busy
2024-08-14T07:58:40.951Z WARN  worker   job=5f1c shard 2 of 5 took 21.4 s, expected 9.0 s
2024-08-14T07:59:03.118Z ERROR worker   job=5f1c ENOSPC: no space left on device, write
2024-08-14T07:59:03.120Z INFO  worker   job=5f1c removed 1.9 GB of unfinished output
2024-08-14T07:59:03.127Z INFO  request  GET /api/jobs/5f1c 200 3ms state=FAILED
2024-08-14T08:04:55.660Z INFO  request  POST /api/jobs 201 41ms job=60aa
2024-08-14T08:06:31.209Z INFO  worker   job=60aa finished in 95.5 s, 2.2 GB written
2024-08-14T08:06:31.214Z INFO  server   disk: 14.8 GB free of 98.3 GB`,

  `Lentil soup with lemon (4 people, 40 minutes)

Ingredients
- 250 g red lentils
- 1 large onion, 2 carrots, 2 cloves of garlic
- 2 tablespoons of olive oil
- 1 teaspoon of ground cumin, half a teaspoon of paprika
- 1.2 litres of vegetable stock
- 1 lemon, salt, pepper, a handful of parsley

Method
1. Chop onion, carrots and garlic. Rinse the lentils until the water runs clear.
2. Fry the onion in the oil for 5 minutes, then add garlic, cumin and paprika for one more minute.
3. Add carrots, lentils and stock. Bring to the boil and simmer for 20 minutes with the lid half on.
4. Blend half of the soup and stir it back in, so that it is creamy but not smooth.
5. Season with the juice of half the lemon, salt and pepper. Serve with parsley and slices of lemon.

Per person: about 310 kcal, 16 g of protein, 8 g of fat.`,

  `[package]
name = "tidepool"
version = "0.4.2"
edition = "2021"
license = "Apache-2.0"
description = "Predicts tides from harmonic constants"

[dependencies]
serde = { version = "1.0", features = ["derive"] }
time = { version = "0.3", features = ["formatting", "parsing"] }
clap = { version = "4", features = ["derive"], optional = true }

[features]
default = ["cli"]
cli = ["dep:clap"]

[profile.release]
lto = true
codegen-units = 1

# Changes
# 0.4.2  Heights below chart datum are negative again (they were clamped to zero).
# 0.4.1  Faster: constituents that do not matter at a station are skipped, at most 0.5 mm are lost.
# 0.4.0  Times carry their offset. A station without a time zone is an error now, it used to be UTC.
# 0.3.0  Reads constants in degrees as well as in radians; the file says which.`,

  `Theorem. The square root of 2 is not a fraction of whole numbers.

Proof. Suppose that it were, and write it as p / q in lowest terms, so that p and q have no common divisor greater than 1. Squaring gives p * p = 2 * q * q. The right side is even, hence p * p is even, and therefore p is even, because the square of an odd number is odd. Write p = 2 * r. Then 4 * r * r = 2 * q * q, so q * q = 2 * r * r, which is even as well, and q is even. Now 2 divides both p and q, which contradicts the choice of lowest terms. So there is no such fraction.

Remark. The same argument works for 3, 5, 6 and 7. Where does it break down for 4? From p * p = 4 * q * q one may conclude only that p is even, not that q is.`,

  `Balance of the gardening club on 31 December

Income
  Members' fees, 86 at 24.00        2,064.00
  Plant sale in May                 1,310.50
  Donations                           275.00
  Interest                             11.37
  Total                             3,660.87

Expenses
  Rent of the meadow                1,200.00
  Seeds and tools                     742.18
  Repair of the pump                  389.90
  Insurance                           215.00
  Coffee and cake, summer party       168.42
  Total                             2,715.50

Surplus                               945.37
Cash at the beginning of the year   1,402.16
Cash at the end of the year         2,347.53

The surplus is larger than last year's (310.08), mostly because of the plant sale. The board proposes to put 600.00 aside for a new shed and to leave the fee as it is. Audited and found correct by M. Haas and P. Olsen.`,

  `Quick reference: units

1 inch = 2.54 cm exactly
1 foot = 12 inches = 30.48 cm
1 mile = 1,609.344 m
1 nautical mile = 1,852 m
1 pound = 0.45359237 kg
1 US gallon = 3.785411784 litres
1 kWh = 3.6 MJ
1 bar = 100,000 Pa

Celsius to Fahrenheit: F = C * 9 / 5 + 32
  -40 C = -40 F, 0 C = 32 F, 20 C = 68 F, 37 C = 98.6 F, 100 C = 212 F

Speeds: 1 m/s = 3.6 km/h = 2.237 mph; a knot is one nautical mile an hour, 1.852 km/h.

Prefixes: k = 10^3, M = 10^6, G = 10^9, T = 10^12; m = 10^-3, u = 10^-6, n = 10^-9.
In memory sizes Ki = 2^10 = 1,024, Mi = 2^20 = 1,048,576 and Gi = 2^30 = 1,073,741,824, so that 1 GiB is about 7.4 percent more than 1 GB.`,

  `<?xml version="1.0" encoding="UTF-8"?>
<catalogue xmlns="urn:example:seeds" updated="2025-02-03">
  <!-- Prices in euros, including tax. -->
  <item sku="T-104" organic="true">
    <name xml:lang="en">Cherry tomato</name>
    <name xml:lang="fr">Tomate cerise</name>
    <price>2.95</price>
    <sow from="02-15" to="04-10" indoors="true"/>
    <tags><tag>fruit</tag><tag>balcony</tag></tags>
  </item>
  <item sku="R-017" organic="false">
    <name xml:lang="en">Radish &quot;Red Globe&quot;</name>
    <price>1.80</price>
    <sow from="03-01" to="09-15" indoors="false"/>
    <tags><tag>root</tag><tag>quick</tag></tags>
  </item>
  <item sku="B-220" organic="true">
    <name xml:lang="en">Basil &amp; dill, mixed</name>
    <price>3.10</price>
    <sow from="04-15" to="07-31" indoors="true"/>
    <tags/>
  </item>
  <summary items="3" cheapest="R-017">Orders above 25.00 are sent free of charge; others cost 3.50.</summary>
</catalogue>`,
];

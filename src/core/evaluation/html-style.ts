/** The one stylesheet of a report's page; its hash stands in the page's Content-Security-Policy. */
export const STYLE = `
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--ink:#1b1b19;--soft:#5d5c57;--line:#dddcd6;--grid:#ebeae5;
--blue:#2369bd;--floor:#8a887f;--mark:#a3420a;--good:#17602b;--goodbg:#e3f3e6;--bad:#a31515;--badbg:#fbe6e4;--open:#7a4b00;--openbg:#fbefd6;
--s0:#eaf1fa;--s1:#cfe0f4;--s2:#abc9ea;--s3:#82aedd;--s4:#5a91cd;--s5:#3a74b5;--s6:#235894;--s7:#123a69;
--d0:#9c4310;--d1:#cf7a3f;--d2:#f0c19d;--d3:#e9e8e3;--d4:#b3cdec;--d5:#5a91cd;--d6:#1d4f8c}
@media (prefers-color-scheme:dark){:root{--page:#141413;--card:#1d1d1b;--ink:#f0efea;--soft:#a9a79e;--line:#3a3935;--grid:#2b2a27;
--blue:#6aa5ec;--floor:#98968c;--mark:#f0a06a;--good:#8fd6a0;--goodbg:#173321;--bad:#ff9d94;--badbg:#451d1a;--open:#f2c66d;--openbg:#3d2e0f;
--s0:#1c2733;--s1:#1f3650;--s2:#244a73;--s3:#2d6199;--s4:#427fbf;--s5:#6a9fd6;--s6:#9bc1e8;--s7:#d3e5f8;
--d0:#f2a873;--d1:#b9672f;--d2:#6e4225;--d3:#363531;--d4:#2c4a6e;--d5:#427fbf;--d6:#9bc1e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.15rem;font-weight:600;margin:0 0 4px}
h2{font-size:1.15rem;margin:0 0 12px}
h3{font-size:1rem;margin:20px 0 8px}
p{margin:0 0 12px;max-width:75ch}
ul{margin:0 0 12px;padding-left:20px}
li{margin:4px 0;max-width:80ch}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
section,header{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:20px;margin:0 0 16px}
.soft{color:var(--soft)}
.verdict{display:inline-flex;gap:10px;align-items:center;font-size:1.5rem;font-weight:700;padding:4px 16px;border-radius:6px;margin:8px 0 12px}
.PASSED{color:var(--good);background:var(--goodbg)}
.FAILED{color:var(--bad);background:var(--badbg)}
.INCONCLUSIVE{color:var(--open);background:var(--openbg)}
.ok{color:var(--good);white-space:nowrap}.no{color:var(--bad);font-weight:600;white-space:nowrap}
.code{font-weight:600}
.scroll{overflow-x:auto;margin:0 0 12px}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--blue);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding:0 0 6px}
th,td{text-align:left;vertical-align:top;padding:6px 20px 6px 0;border-top:1px solid var(--line);overflow-wrap:normal}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--soft);font-weight:600;border-top:0;white-space:nowrap}
tbody th{font-weight:400}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.wide{min-width:15rem;max-width:26rem;white-space:pre-wrap;overflow-wrap:anywhere;display:block}
.name{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.86em}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:24px;margin:0 0 12px}
figure{margin:0;min-width:0}
figcaption{font-size:.92rem;margin:0 0 6px}
svg{display:block;width:100%;height:auto;max-width:560px}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--soft)}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--floor);stroke-width:1}
.bar{fill:var(--blue)}.candidate{fill:none;stroke:var(--blue);stroke-width:2}.dot{fill:var(--blue)}
.floor{fill:none;stroke:var(--floor);stroke-width:2;stroke-dasharray:5 3}.floordot{fill:var(--floor)}
.mark{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:2 3}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.85rem;color:var(--soft);padding:6px 0 0;margin:0;list-style:none}
.legend li{display:flex;align-items:center;gap:6px;margin:0}
.legend svg{width:18px;height:12px;flex:none}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}.s5{fill:var(--s5)}.s6{fill:var(--s6)}.s7{fill:var(--s7)}
.d0{fill:var(--d0)}.d1{fill:var(--d1)}.d2{fill:var(--d2)}.d3{fill:var(--d3)}.d4{fill:var(--d4)}.d5{fill:var(--d5)}.d6{fill:var(--d6)}
.none{fill:none;stroke:var(--line)}
details{margin:0 0 12px}
summary{cursor:pointer;padding:4px 0;color:var(--blue)}
.prompt{border-top:1px solid var(--line);padding:12px 0}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:12px}
.sides{margin-top:8px}td code{overflow-wrap:anywhere}
.prompt pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;font-size:.95rem;background:var(--page);border-radius:6px;padding:8px 12px}
.prompt h4{margin:0 0 4px;font-size:.85rem;color:var(--soft);font-weight:600}
mark{background:var(--openbg);color:var(--open)}
dl{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:4px 16px;margin:0 0 12px;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;min-width:0}
@media (max-width:600px){main{padding:12px 8px 32px}section,header{padding:16px 12px}dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 8px}
.stack,.stack tbody,.stack tr,.stack caption{display:block}.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack tr{border-top:1px solid var(--line);padding:8px 0}.stack th,.stack td{display:block;border:0;padding:2px 0;white-space:normal;text-align:left;overflow-wrap:anywhere}
.stack tbody th{font-weight:600}.stack td::before{content:attr(data-label) ": ";color:var(--soft)}.wide{min-width:0}}
@media print{body{background:none}section,header{break-inside:avoid}}
`;

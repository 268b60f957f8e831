import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** A running `npm start`, which `vite` (the development server with hot reload) passes API calls on to. */
const API = "http://127.0.0.1:4000";

export default defineConfig({
  root: "web",
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    // The server's Content-Security-Policy allows scripts, styles and images from its own address only: no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/graphql": { target: API, ws: true },
      "/session": { target: API },
      "/evaluations": { target: API },
    },
  },
});

// Drives a report in a headless browser, as readers do: pointer, keyboard, phone, dark, print, without scripts.
//
//   node report.mjs REPORT.html PICTURES
//
// What the page shows is compared with the page's data, read here independently. Pictures of the page go to the folder
// PICTURES. Ends with 1 at the first thing that is not as it should be.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, pictures] = process.argv.slice(2).map(path => resolve(path));
mkdirSync(pictures, { recursive: true });
const address = pathToFileURL(report).href;
const html = readFileSync(report, "utf8");
const data = JSON.parse(html.match(/<script type="application\/json" id="data">(.*?)<\/script>/s)[1]);

function numbers(packed) {
  const bytes = Buffer.from(packed.data, "base64");
  const width = { u8: 1, u16: 2, u32: 4 }[packed.kind];
  return Array.from({ length: bytes.length / width }, (_, i) => bytes.readUIntLE(i * width, width));
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
let failed = false;
try {
  await desktop();
  await phone();
  await withoutScripts();
  await printed();
} catch (error) {
  failed = true;
  console.error(error);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);

/** A page that may ask for nothing but itself, and may not complain. */
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const trouble = [];
  page.on("console", message => message.type() === "error" && trouble.push(message.text()));
  page.on("pageerror", error => trouble.push(String(error)));
  page.on("request", request => {
    if (request.url() !== address && !request.url().startsWith("data:")) trouble.push("asked for " + request.url().slice(0, 80));
  });
  const began = Date.now();
  await page.goto(address, { waitUntil: "load" });
  const opened = Date.now() - began;
  // The interactive parts come when the browser has time.
  if (options.javaScriptEnabled !== false) await page.waitForFunction(() => document.querySelector(".lab:empty") === null);
  const ready = Date.now() - began;
  return { context, page, opened, ready, close: async () => {
    assert.deepEqual(trouble, []);
    await context.close();
  } };
}

/** All sections are laid out and drawn, those out of sight too. */
function whole(page) {
  // Not `addStyleTag`, which waits for an event that a page without scripts never tells.
  return page.evaluate(() => {
    const style = document.createElement("style");
    style.textContent = "main>section{content-visibility:visible!important}";
    document.head.append(style);
  });
}

/** No element sticks out sideways. */
async function fits(page) {
  await whole(page);
  const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(wide <= seen, `the page is ${wide} pixels wide on a screen of ${seen}`);
}

async function picture(page, name, fullPage = true) {
  if (fullPage) await whole(page);
  return page.screenshot({ path: `${pictures}/${name}.png`, fullPage });
}

function pixels(page, selector) {
  return page.locator(selector).evaluate(canvas => canvas.toDataURL());
}

function told(message) {
  console.log("ok  " + message);
}

/** Where a dot of a map lies on its canvas: one that no other dot covers. */
function loneDot(map, arm, side) {
  const points = numbers(map.arms[arm].points);
  const place = i => [10 + points[2 * i] / 65534 * (side - 20), side - 10 - points[2 * i + 1] / 65534 * (side - 20)];
  const all = Array.from({ length: points.length / 2 }, (_, i) => place(i));
  let best = 0, most = -1;
  for (let i = 0; i < Math.min(all.length, 400); i++) {
    let room = Infinity;
    for (let j = 0; j < all.length; j++) if (j !== i) room = Math.min(room, Math.hypot(all[i][0] - all[j][0], all[i][1] - all[j][1]));
    if (room > most) [best, most] = [i, room];
  }
  assert.ok(most > 1, "no dot stands alone");
  return { image: numbers(map.images)[best], at: all[best] };
}

async function cardSays(page, image) {
  const label = data.classes[numbers(data.gallery.labels)[image]];
  assert.equal(await page.locator("#card .truth").textContent(), label);
  const answers = await page.locator("#card .answers li").allTextContents();
  assert.equal(answers.length, data.gallery.arms.length);
  data.gallery.arms.forEach((arm, i) => {
    const predicted = data.classes[numbers(arm.predicted)[image]];
    assert.ok(answers[i].includes(arm.title) && answers[i].includes(predicted), answers[i]);
    assert.equal(answers[i].startsWith("✓"), predicted === label);
  });
  const near = data.gallery.arms.filter(arm => arm.each > 0);
  const rows = page.locator("#card .near");
  assert.equal(await rows.count(), near.length);
  const labels = numbers(data.gallery.labels);
  for (const [i, arm] of near.entries()) {
    const expected = numbers(arm.neighbours).slice(image * arm.each, (image + 1) * arm.each).map(other => data.classes[labels[other]]);
    assert.deepEqual(await rows.nth(i).locator("li .unseen").allTextContents(), expected);
  }
  // The photograph comes, and is no empty canvas.
  await page.waitForFunction(() => {
    const canvas = document.querySelector("#card .card-head canvas");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.every((value, i) => i % 4 !== 3 || value === 255);
  }, undefined, { timeout: 5000 });
}

async function desktop() {
  const { page, opened, ready, close } = await open({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  assert.ok(opened < 2000 && ready < 2000, `opened in ${opened} ms, ready in ${ready} ms`);
  const images = data.gallery ? numbers(data.gallery.labels).length : 0;
  told(`${images} test images, ${(html.length / 1e6).toFixed(1)} MB, opened in ${opened} ms, every part ready in ${ready} ms`);
  assert.ok(await page.locator(".lead").isVisible());
  await fits(page);

  // The answer stands above everything else.
  const heights = await page.evaluate(() => [".lead", "table", "svg"].map(s => document.querySelector(s).getBoundingClientRect().top));
  assert.ok(heights[0] < heights[1] && heights[0] < heights[2]);

  // Pointing at a dot.
  const planes = page.locator("#map-lab .plane");
  assert.equal(await planes.count(), data.maps[0].arms.length);
  await planes.first().scrollIntoViewIfNeeded();
  const side = await planes.first().evaluate(canvas => canvas.clientWidth);
  const dot = loneDot(data.maps[0], 0, side);
  const before = await pixels(page, "#map-lab figure:nth-child(2) .plane");
  await planes.first().hover({ position: { x: dot.at[0], y: dot.at[1] } });
  await cardSays(page, dot.image);
  assert.notEqual(await pixels(page, "#map-lab figure:nth-child(2) .plane"), before, "the other map shows nothing");
  told("pointing at a dot shows its photograph, answers and neighbours, in both maps");

  // A click holds the image; Escape lets go.
  await planes.first().click({ position: { x: dot.at[0], y: dot.at[1] } });
  await page.mouse.move(5, 5);
  await planes.first().hover({ position: { x: side / 2, y: side / 2 } });
  await cardSays(page, dot.image);
  await picture(page, "maps-light", false);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#card .hint").isVisible());

  // Keys go from dot to dot, and what is chosen is told to screen readers.
  await planes.nth(1).focus();
  await page.keyboard.press("Home");
  const chosen = () => page.locator("#map-lab").getAttribute("data-image").then(Number);
  const first = await chosen();
  await cardSays(page, first);
  await page.keyboard.press("ArrowRight");
  const second = await chosen();
  assert.notEqual(second, first);
  await cardSays(page, second);
  const label = data.classes[numbers(data.gallery.labels)[second]];
  assert.match(await page.locator("#card-told").textContent(), new RegExp(`^Test image ${second}, ${label}\\.`));
  assert.equal(await page.locator("#card-told").getAttribute("aria-live"), "polite");
  const points = numbers(data.maps[0].arms[1].points);
  const position = image => numbers(data.maps[0].images).indexOf(image);
  assert.ok(points[2 * position(second)] > points[2 * position(first)], "the right arrow went left");
  told("arrow keys go from dot to dot");

  // By number; by class; by method.
  await page.locator("#image-number").fill("7");
  await page.locator("#image-number").press("Enter");
  await cardSays(page, 7);
  const all = await pixels(page, "#map-lab figure:nth-child(1) .plane");
  const chip = page.locator("#map-lab .toggles button").nth(3);
  await chip.click();
  assert.equal(await chip.getAttribute("aria-pressed"), "true");
  assert.notEqual(await pixels(page, "#map-lab figure:nth-child(1) .plane"), all, "one class alone looks like all");
  await chip.click();
  if (data.maps.length > 1) {
    await page.getByText(data.maps[1].method, { exact: true }).click();
    assert.ok((await page.locator("#map-lab h3").first().textContent()).endsWith(data.maps[1].method));
    const there = loneDot(data.maps[1], 1, side);
    await page.keyboard.press("Escape");
    await planes.nth(1).click({ position: { x: there.at[0], y: there.at[1] } });
    await cardSays(page, there.image);
  }
  told("maps answer to a number, a class and a method");

  // Curves: wheel, keys, drag, switches.
  const chart = page.locator("#curve-chart");
  await chart.scrollIntoViewIfNeeded();
  const view = async () => (await chart.getAttribute("data-view")).split(" ").map(Number);
  assert.deepEqual(await view(), [0, 1]);
  await chart.hover();
  assert.ok(await page.locator(".tip").isVisible());
  await page.mouse.wheel(0, -300);
  await page.waitForFunction(() => document.getElementById("curve-chart").dataset.view !== "0.0000 1.0000");
  const zoomed = await view();
  assert.ok(zoomed[1] - zoomed[0] < 1);
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 60, box.y + box.height / 2, { steps: 3 });
  await page.mouse.up();
  const dragged = await view();
  assert.ok(dragged[0] < zoomed[0] && Math.abs(dragged[1] - dragged[0] - zoomed[1] + zoomed[0]) < 0.001, "dragging pans");
  await chart.focus();
  await page.keyboard.press("0");
  assert.deepEqual(await view(), [0, 1]);
  await page.keyboard.press("+");
  assert.ok((await view())[1] - (await view())[0] < 1);
  await page.keyboard.press("ArrowRight");
  await page.getByRole("button", { name: "Show all" }).click();
  assert.deepEqual(await view(), [0, 1]);
  assert.match(await chart.getAttribute("aria-label"), /against multiply-adds/);
  const onCompute = await pixels(page, "#curve-chart");
  await page.getByText("Images seen", { exact: true }).first().click();
  assert.notEqual(await pixels(page, "#curve-chart"), onCompute, "another axis looks the same");
  const toggle = page.locator("#curve-lab .toggles button").first();
  await toggle.click();
  assert.equal(await toggle.getAttribute("aria-pressed"), "false");
  await toggle.click();
  assert.match(await chart.getAttribute("aria-label"), /against images seen/);
  told("curves zoom by wheel and keys, pan by dragging, and change their axis");

  // The film of training.
  const slider = page.locator("#film-time");
  await slider.scrollIntoViewIfNeeded();
  const caption = page.locator(".film .n-left").first();
  const last = data.films[0].epochs.at(-1);
  assert.equal(await caption.textContent(), `epoch ${last} of ${last}`);
  const ended = await pixels(page, ".film:first-child .plane:first-child");
  await slider.focus();
  await page.keyboard.press("Home");
  assert.equal(await caption.textContent(), `epoch 0 of ${last}`);
  assert.notEqual(await pixels(page, ".film:first-child .plane:first-child"), ended);
  await page.locator("#film-play").click();
  await page.waitForFunction(() => document.getElementById("film-time").value > 50);
  await page.locator("#film-play").click();
  const held = await slider.inputValue();
  await page.waitForTimeout(120);
  assert.equal(await slider.inputValue(), held, "paused, it goes on");
  told("the film of training plays, pauses and is sought");

  // Whatever can be reached has a name.
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, a[href], [tabindex='0'], canvas[role=img], svg[role=img]")]
    .filter(element => element.closest("[hidden]") === null)
    .filter(element => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.[0]?.textContent.trim()))
    .map(element => element.outerHTML.slice(0, 120)));
  assert.deepEqual(nameless, []);

  // Themes.
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), "rgb(255, 255, 255)");
  const light = await pixels(page, "#curve-chart");
  await page.evaluate(() => scrollTo(0, 0));
  await picture(page, "desktop-light");
  const theme = page.locator("#theme");
  await theme.click();
  assert.equal(await ground(), "rgb(255, 255, 255)");
  await theme.click();
  assert.equal(await ground(), "rgb(21, 23, 27)");
  assert.notEqual(await pixels(page, "#curve-chart"), light, "the chart stays light");
  await picture(page, "desktop-dark");
  await theme.click();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await ground(), "rgb(21, 23, 27)");
  told("light and dark, by the system or by choice");
  await close();
}

async function phone() {
  for (const colorScheme of ["light", "dark"]) {
    const { page, close } = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme });
    await fits(page);
    const plane = page.locator("#map-lab .plane").first();
    await plane.scrollIntoViewIfNeeded();
    const side = await plane.evaluate(canvas => canvas.clientWidth);
    const dot = loneDot(data.maps[0], 0, side);
    await plane.tap({ position: { x: dot.at[0], y: dot.at[1] } });
    await cardSays(page, dot.image);
    await fits(page);
    await picture(page, "phone-" + colorScheme);
    await close();
  }
  const { page, close } = await open({ viewport: { width: 320, height: 640 } });
  await fits(page);
  // Tables scroll; what stands above them stays, and is read as a whole.
  const captions = await page.evaluate(() => [...document.querySelectorAll(".scroll:has(caption)")].map(table => {
    table.scrollLeft = table.scrollWidth;
    const { left, right } = table.querySelector("caption > span").getBoundingClientRect();
    return { scrolled: table.scrollLeft, left, right };
  }));
  assert.ok(captions.some(({ scrolled }) => scrolled > 0), "no table is wider than a phone");
  for (const { left, right } of captions) assert.ok(left >= 0 && right <= 320, `a caption from ${left} to ${right}`);
  await close();
  told("phones: nothing sticks out, a tap shows the photograph");
}

async function withoutScripts() {
  const { page, close } = await open({ viewport: { width: 1280, height: 900 }, javaScriptEnabled: false });
  assert.ok(await page.locator(".lead").isVisible());
  assert.ok(await page.locator("#arms table").first().isVisible());
  for (const section of ["curves", "maps", "similarity", "retrieval", "confusion", "mistakes", "reliability"]) {
    assert.ok(await page.locator(`#${section} svg`).first().isVisible(), section);
  }
  assert.equal(await page.locator(".lab:visible").count(), 0);
  assert.equal(await page.locator("button:visible").count(), 0);
  await picture(page, "without-scripts");
  await close();
  told("without scripts every section has its figures");
}

async function printed() {
  const { page, close } = await open({ viewport: { width: 794, height: 1123 }, colorScheme: "dark" });
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator(".lab:visible").count(), 0);
  assert.ok(await page.locator("#maps svg").first().isVisible());
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--paper").trim()), "#ffffff");
  await picture(page, "print");
  await close();
  told("in print the figures stand, on white");
}

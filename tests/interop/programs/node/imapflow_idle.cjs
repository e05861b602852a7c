// ImapFlow as somebody who waits: sits in IDLE, reads each message that it is told of, and keeps a list of the mailbox by what it
// is told alone.  What it learns is written to stdout, a line of JSON each; a line on stdin ends it.
// Arguments: host, port, PEM file or nothing, user, password, a folder (not used).

"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const { ImapFlow } = require("imapflow");

const [host, port, authority, user, pass] = process.argv.slice(2);
const secure = authority !== "";
const client = new ImapFlow({
    host,
    port: Number(port),
    secure,
    doSTARTTLS: secure ? undefined : false,
    tls: secure ? { ca: fs.readFileSync(authority) } : undefined,
    auth: { user, pass },
    logger: false,
});

// UID and flags by number.
const messages = [];
let ending = false;

function say(words) {
    process.stdout.write(`${JSON.stringify(words)}\n`);
}

function sorted(flags) {
    return [...flags].filter((flag) => flag !== "\\Recent").sort();
}

async function read() {
    const first = 1 + Math.max(0, ...messages.map(([uid]) => uid));
    for await (const message of client.fetch(`${first}:*`, { uid: true, flags: true, source: true }, { uid: true })) {
        if (message.uid < first) {
            continue;
        }
        messages[message.seq - 1] = [message.uid, sorted(message.flags)];
        const subject = /^Subject: (.*)\r$/m.exec(message.source.toString("latin1"))[1];
        const digest = crypto.createHash("sha256").update(message.source).digest("hex");
        say({ event: "mail", uid: message.uid, subject, digest });
    }
}

async function main() {
    let told = () => {};
    const stop = new Promise((resolve) => readline.createInterface({ input: process.stdin }).once("line", resolve));
    stop.then(() => {
        ending = true;
        told();
    });
    client.on("exists", () => told());
    client.on("expunge", ({ seq }) => {
        const [[uid]] = messages.splice(seq - 1, 1);
        say({ event: "gone", uid });
    });
    client.on("flags", ({ seq, flags }) => {
        if (messages[seq - 1]) {
            messages[seq - 1][1] = sorted(flags);
            say({ event: "flags", uid: messages[seq - 1][0], flags: sorted(flags) });
        }
    });
    client.on("close", () => {
        if (!ending) {
            say({ event: "error", text: "the connection was closed" });
            process.exit(1);
        }
    });
    await client.connect();
    await client.mailboxOpen("INBOX");
    for await (const message of client.fetch("1:*", { uid: true, flags: true })) {
        messages[message.seq - 1] = [message.uid, sorted(message.flags)];
    }
    say({ event: "ready" });
    while (!ending) {
        const news = new Promise((resolve) => {
            told = resolve;
        });
        if (client.mailbox.exists <= messages.length) {
            client.idle();
            await news;
        }
        if (client.mailbox.exists > messages.length) {
            await read();
        }
    }
    say({ event: "final", messages });
    await client.logout();
}

client.on("error", (error) => {
    say({ event: "error", text: String(error) });
    process.exit(1);
});
main().then(
    () => process.exit(0),
    (error) => {
        say({ event: "error", text: String(error) });
        process.exit(1);
    },
);

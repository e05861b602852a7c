// ImapFlow: reads all, changes things, and waits with IDLE for a message that a second connection of it puts there.
// Arguments: host, port, PEM file or nothing, user, password, folder for what is read, a message to append, and the UIDs of one to flag and of one to remove.

"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { ImapFlow } = require("imapflow");

const [host, port, authority, user, pass, folder, local, flagged, removed] = process.argv.slice(2);

function connection() {
    const secure = authority !== "";
    return new ImapFlow({
        host,
        port: Number(port),
        secure,
        doSTARTTLS: secure ? undefined : false,
        tls: secure ? { ca: fs.readFileSync(authority) } : undefined,
        auth: { user, pass },
        logger: false,
    });
}

async function collect(client) {
    const index = [];
    for (const entry of await client.list()) {
        if (entry.flags.has("\\Noselect") || entry.flags.has("\\NonExistent")) {
            continue;
        }
        index.push({ mailbox: entry.path });
        const lock = await client.getMailboxLock(entry.path, { readOnly: true });
        try {
            for await (const message of client.fetch("1:*", { uid: true, flags: true, source: true })) {
                const file = `${index.length}.eml`;
                fs.writeFileSync(path.join(folder, file), message.source);
                index.push({ mailbox: entry.path, file, flags: [...message.flags], uid: message.uid });
            }
        } finally {
            lock.release();
        }
    }
    fs.writeFileSync(path.join(folder, "index.json"), JSON.stringify(index));
}

async function waitForMessage(client, other) {
    const lock = await client.getMailboxLock("INBOX");
    const before = client.mailbox.exists;
    const told = new Promise((resolve) => {
        client.on("exists", (event) => event.count > before && resolve());
    });
    const idle = client.idle();
    await other.append("INBOX", fs.readFileSync(local), ["\\Flagged"]);
    await told;
    await client.noop();
    await idle;
    lock.release();
}

async function change(client) {
    const lock = await client.getMailboxLock("INBOX");
    await client.messageFlagsAdd(flagged, ["\\Flagged", "Neu"], { uid: true });
    await client.messageDelete(removed, { uid: true });
    await client.messageMove("30:32", "Trash", { uid: true });
    await client.messageCopy("40:42", "Two  words", { uid: true });
    lock.release();
    await client.mailboxCreate(["Made", "📬 here & there"]);
    await client.mailboxRename("Archive/2023/Zürich", "Archive/2024");
}

async function main() {
    const client = connection();
    const other = connection();
    await client.connect();
    await other.connect();
    await collect(client);
    await waitForMessage(client, other);
    await change(client);
    await other.logout();
    await client.logout();
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});

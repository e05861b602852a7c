// What the tests do inside of Thunderbird, with its own rights: the functions of `mail`.
//
// Everything that takes long is begun here and looked at later, so that no call waits: an answer that does not come
// while the network is away must not look like a program that hangs.

globalThis.mail = (() => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  const { NetUtil } = ChromeUtils.importESModule("resource://gre/modules/NetUtil.sys.mjs");
  const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
  const BUSY = 0x8055000a; // NS_MSG_FOLDER_BUSY
  const OFFLINE = Ci.nsMsgMessageFlags.Offline;
  const seen = { alerts: [], dialogs: [], added: [] };
  const jobs = [];
  const kept = []; // listeners: somebody has to hold them

  const server = () => MailServices.accounts.allServers.find(one => one.type == "imap");
  const imap = one => one.QueryInterface(Ci.nsIMsgImapMailFolder);
  const all = () => server().rootFolder.descendants.map(imap).filter(one => !one.noSelect);
  const folder = name => {
    const found = all().find(one => one.onlineName == name);
    if (!found) {
      throw new Error(`there is no folder ${name}`);
    }
    return found;
  };
  // The session's topmost window is none without a window manager.
  const view = () => Services.wm.getMostRecentWindow("mail:3pane")?.msgWindow ?? null;
  const file = path => {
    const made = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
    made.initWithPath(path);
    return made;
  };
  const headers = name => [...folder(name).messages];

  function begin(what) {
    const job = { what, done: false, status: 0 };
    jobs.push(job);
    return {
      job: jobs.length - 1,
      end(status) {
        job.done = true;
        job.status = status;
      },
    };
  }

  // What cannot even be begun has ended; but a folder may be busy with something of Thunderbird's own.
  function attempt(end, start) {
    try {
      start();
    } catch (error) {
      if (error.result == BUSY) {
        setTimeout(attempt, 200, end, start);
      } else {
        end(error.result ?? Cr.NS_ERROR_UNEXPECTED);
      }
    }
  }

  // An operation that tells its end to a listener of URLs.
  function running(what, start) {
    const { job, end } = begin(what);
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
      OnStartRunningUrl() {},
      OnStopRunningUrl(_url, status) {
        end(status);
      },
    };
    kept.push(listener);
    attempt(end, () => start(listener));
    return job;
  }

  let answered = { number: 0 };

  return {
    // Call a function, once; its result is in a list.  When a dialog comes up meanwhile the answer is lost, and asked for again.
    answer(number, name, given) {
      if (answered.number != number) {
        answered = { number, value: (async () => [await mail[name](...given)])() };
      }
      return answered.value;
    },

    ready() {
      return view() !== null;
    },

    // From now on it is noted what a user would be told, and which messages come.
    watch() {
      const listener = {
        QueryInterface: ChromeUtils.generateQI(["nsIMsgUserFeedbackListener"]),
        onAlert(message, _url, silent) {
          seen.alerts.push({ message, silent: Boolean(silent) });
          return false;
        },
      };
      const observer = {
        observe(subject) {
          seen.dialogs.push(subject.args ? `${subject.args.title}: ${subject.args.text}` : "a dialog");
        },
      };
      const adding = {
        msgAdded(header) {
          seen.added.push([imap(header.folder).onlineName, header.messageId]);
        },
      };
      kept.push(listener, observer, adding);
      MailServices.mailSession.addUserFeedbackListener(listener);
      MailServices.mfn.addListener(adding, MailServices.mfn.msgAdded);
      Services.obs.addObserver(observer, "common-dialog-loaded");
    },

    // The password, as if the user had once let it be kept.
    async login(password) {
      const { hostname, username } = server();
      const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
      login.init(`imap://${hostname}`, null, `imap://${hostname}`, username, password, "", "");
      await Services.logins.addLoginAsync(login);
    },

    // The certificate of the server, as if the user had once accepted it.
    accept(text) {
      const { hostname, port } = server();
      const certificate = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).constructX509FromBase64(text);
      Cc["@mozilla.org/security/certoverride;1"]
        .getService(Ci.nsICertOverrideService)
        .rememberValidityOverride(hostname, port, {}, certificate, true);
    },

    // Ask the server for its folders.
    discover() {
      server().getNewMessages(server().rootFolder, view(), null);
    },

    folders() {
      return all().map(one => one.onlineName);
    },

    // Look for new messages in a folder.  It has no end that could be known: Thunderbird does the same by itself at any
    // time, and then forgets who else waits for it.
    update(name) {
      folder(name).updateFolder(view());
    },

    // Fetch all messages of a folder that are not here yet.
    download(name) {
      return running(`download ${name}`, listener => folder(name).downloadAllForOffline(listener, view()));
    },

    // Bring a message of a file up to a folder of the server.
    upload(path, name) {
      const { job, end } = begin(`upload to ${name}`);
      const listener = {
        QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
        onStartCopy() {},
        onProgress() {},
        setMessageKey() {},
        getMessageId() {
          return null;
        },
        onStopCopy(status) {
          end(status);
        },
      };
      kept.push(listener);
      const where = folder(name);
      attempt(end, () =>
        MailServices.copy.copyFileMessage(file(path), where, null, false, Ci.nsMsgMessageFlags.Read, "", listener, view())
      );
      return job;
    },

    // How it stands with jobs: whether each is done, and with which result (0 is good).
    jobs(numbers) {
      return numbers.map(number => jobs[number]);
    },

    // Of each folder: how many messages are here whole.
    whole() {
      return Object.fromEntries(all().map(one => [one.onlineName, [...one.messages].filter(header => header.flags & OFFLINE).length]));
    },

    // What was noted since watch().
    seen() {
      return seen;
    },

    // Write the messages of a folder, as they are kept, to files.
    async save(name, path) {
      const where = folder(name);
      const found = [];
      for (const header of headers(name)) {
        const entry = { mailbox: name, uid: header.messageKey, flags: [] };
        for (const [flag, word] of [
          [Ci.nsMsgMessageFlags.Read, "\\Seen"],
          [Ci.nsMsgMessageFlags.Replied, "\\Answered"],
          [Ci.nsMsgMessageFlags.Marked, "\\Flagged"],
        ]) {
          if (header.flags & flag) {
            entry.flags.push(word);
          }
        }
        if (header.flags & OFFLINE) {
          entry.file = `${where.URI.replace(/[^A-Za-z0-9]/g, "_")}.${header.messageKey}.eml`;
          const made = file(PathUtils.join(path, entry.file));
          const to = Cc["@mozilla.org/network/file-output-stream;1"].createInstance(Ci.nsIFileOutputStream);
          to.init(made, -1, -1, 0);
          await new Promise(resolve => NetUtil.asyncCopy(where.getMsgInputStream(header), to, resolve));
        }
        found.push(entry);
      }
      return found;
    },
  };
})();

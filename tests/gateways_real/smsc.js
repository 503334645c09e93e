// An SMSC: takes submit_sm, sends receipts and replies to whoever is bound as receiver, and can be
// told to fail. Usage: node smsc.js SMPP_PORT CONTROL_PORT
//
// Control, over HTTP: GET /state; POST /mo {from, to, text}; POST /faults {lose_after: N}: the
// connection on which the Nth submit_sm from now comes is destroyed instead of an answer.
"use strict";
const http = require("http");
const smpp = require("smpp");

const [smppPort, controlPort] = process.argv.slice(2).map(Number);
const LOGIN = { system_id: "tester", password: "secret" };
const RECEIPT_AFTER = 50; // ms
const AGAIN_AFTER = 200; // ms until what was not acknowledged is sent again

const taken = []; // every submit_sm that was read, answered or not
const receivers = new Set();
const waiting = []; // deliver_sm that nobody has acknowledged
const counts = { transmitters: 0, receivers: 0, enquiries: 0, acknowledged: 0, refused: 0 };
let loseAfter = 0;
const started = Date.now();

function later(deliver, delay) {
  setTimeout(() => {
    const [receiver] = receivers;
    if (receiver === undefined) {
      waiting.push(deliver);
      return;
    }
    let answered = false;
    const again = () => {
      if (!answered) {
        answered = true;
        later(deliver, AGAIN_AFTER);
      }
    };
    receiver.once("close", again);
    receiver.deliver_sm(deliver, (pdu) => {
      if (answered) return;
      answered = true;
      receiver.removeListener("close", again);
      if (pdu.command_status === smpp.ESME_ROK) {
        counts.acknowledged += 1;
      } else {
        counts.refused += 1;
        later(deliver, AGAIN_AFTER);
      }
    });
  }, delay);
}

function receipt(message, place) {
  const id = message.id;
  const deliver = {
    source_addr_ton: 1,
    source_addr_npi: 1,
    source_addr: message.to,
    destination_addr: message.from,
    esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
    short_message:
      `id:${id} sub:001 dlvrd:001 submit date:2611241400 done date:2611241400` +
      " stat:DELIVRD err:000 text:Hello",
  };
  // Some SMSCs send these, and some do not.
  if (place % 2) Object.assign(deliver, { receipted_message_id: id, message_state: 2 });
  return deliver;
}

function submitted(session, pdu) {
  const { udh, message } = pdu.short_message;
  const place = taken.length;
  const entry = {
    id: `${started.toString(16)}-${place}`,
    from: pdu.source_addr,
    to: pdu.destination_addr,
    text: message,
    header: udh ? [...Buffer.concat(udh.map((part) => Buffer.from(part)))] : null,
    esm_class: pdu.esm_class,
    data_coding: pdu.data_coding,
    registered_delivery: pdu.registered_delivery,
    validity: pdu.validity_period,
    answered: true,
  };
  taken.push(entry);
  if (loseAfter && --loseAfter === 0) {
    entry.answered = false;
    session.destroy();
    return;
  }
  session.send(pdu.response({ message_id: entry.id }));
  if (pdu.registered_delivery) later(receipt(entry, place), RECEIPT_AFTER);
}

function bound(session, pdu, kind) {
  if (pdu.system_id !== LOGIN.system_id || pdu.password !== LOGIN.password) {
    session.send(pdu.response({ command_status: smpp.ESME_RINVPASWD }));
    session.close();
    return;
  }
  counts[kind] += 1;
  session.send(pdu.response({ system_id: "simulator" }));
  if (kind === "receivers") {
    receivers.add(session);
    for (const deliver of waiting.splice(0)) later(deliver, 0);
  }
}

const smsc = smpp.createServer((session) => {
  session.on("bind_transmitter", (pdu) => bound(session, pdu, "transmitters"));
  session.on("bind_receiver", (pdu) => bound(session, pdu, "receivers"));
  session.on("submit_sm", (pdu) => submitted(session, pdu));
  session.on("enquire_link", (pdu) => {
    counts.enquiries += 1;
    session.send(pdu.response());
  });
  session.on("unbind", (pdu) => {
    receivers.delete(session);
    session.send(pdu.response());
    session.close();
  });
  session.on("close", () => receivers.delete(session));
  session.on("error", () => receivers.delete(session));
});

const control = http.createServer((request, response) => {
  const body = [];
  request.on("data", (chunk) => body.push(chunk));
  request.on("end", () => {
    const told = body.length ? JSON.parse(Buffer.concat(body)) : {};
    if (request.url === "/mo") {
      later({ source_addr_ton: 1, source_addr_npi: 1, source_addr: told.from,
              destination_addr: told.to, short_message: told.text }, 0);
    } else if (request.url === "/faults") {
      loseAfter = told.lose_after;
    }
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ ...counts, bound: receivers.size, taken }));
  });
});

smsc.listen(smppPort, "127.0.0.1");
control.listen(controlPort, "127.0.0.1");

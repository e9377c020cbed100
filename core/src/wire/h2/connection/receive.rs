// SPDX-License-Identifier: Apache-2.0
//! Receiving: frames to events.

use super::{ALIVE, BLOCK_TIMES_MAX, LAST_STREAM, LEAVING, Leaving, Payload, Step, Stream};
use super::{Block, Connection, ENDED_STREAMS_MAX, Failure, Fatal, Fault, Half, Heading, Key};
use crate::limits::{CONNECTION_WINDOW_BYTES, OWN_WINDOW_BYTES};
use crate::wire::h2::frame::{self, Code, FrameHeader};
use crate::wire::h2::hpack::Unreadable;
use crate::wire::h2::message;
use crate::wire::h2::meter::Role;

impl<T> Connection<T> {
    pub(super) fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Step<'i>>, Fault> {
        if !self.preface.is_empty() {
            let (said, rest) = input.split_at(input.len().min(self.preface.len()));
            let (expected, left) = self.preface.split_at(said.len());
            if said != expected {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            self.preface = left;
            *input = rest;
        }
        if let Some(payload) = self.payload {
            return Ok(self.data(payload, input));
        }
        // A whole frame at hand is looked at where it is.
        if self.partial.is_empty()
            && let Some((header, rest)) = input.split_first_chunk()
        {
            let header = FrameHeader::parse(header);
            self.check(header)?;
            if header.kind == frame::DATA
                && let Some(first) = rest.get(..usize::from(header.has(frame::PADDED)))
            {
                *input = &rest[first.len()..];
                return self.begin_data(header, first.first().copied()).map(Some);
            }
            if header.kind != frame::DATA
                && let Some((payload, rest)) = rest.split_at_checked(header.len as usize)
            {
                *input = rest;
                return self.frame(header, payload).map(Some);
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        // Else as much of it as is wanted is put together.
        let wanted = match self.partial.first_chunk() {
            None => frame::HEADER_BYTES,
            Some(header) => {
                let header = FrameHeader::parse(header);
                frame::HEADER_BYTES
                    + match header.kind {
                        frame::DATA => usize::from(header.has(frame::PADDED)),
                        _ => header.len as usize,
                    }
            }
        };
        let missing = wanted - self.partial.len();
        let (more, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(more);
        *input = rest;
        if self.partial.len() < wanted {
            return Ok(None);
        }
        let Some(header) = self.partial.first_chunk().map(FrameHeader::parse) else {
            return Ok(None);
        };
        if wanted == frame::HEADER_BYTES {
            self.check(header)?;
            let padded = header.kind == frame::DATA && header.has(frame::PADDED);
            if padded || (header.kind != frame::DATA && header.len > 0) {
                return Ok(Some(Step::Nothing));
            }
        }
        let frame = std::mem::take(&mut self.partial);
        let payload = &frame[frame::HEADER_BYTES..];
        let step = match header.kind {
            frame::DATA => self.begin_data(header, payload.first().copied()),
            _ => self.frame(header, payload),
        };
        // A small one is likely to be cut again.
        if frame.capacity() <= 1024 {
            self.partial = frame;
            self.partial.clear();
        }
        step.map(Some)
    }

    /// What every frame must be.
    fn check(&mut self, header: FrameHeader) -> Result<(), Fault> {
        if header.len as usize > frame::PAYLOAD_BYTES_MAX {
            return Err(Fatal(Code::FRAME_SIZE_ERROR));
        }
        if !self.greeted {
            if header.kind != frame::SETTINGS || header.has(frame::ACK) {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            self.greeted = true;
        }
        // RFC 9113 §6.10: nothing comes between a head's frames.
        let expected = self.block.as_ref().map(|block| block.head.stream);
        let continues = (header.kind == frame::CONTINUATION).then_some(header.stream);
        if expected != continues {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        let of_stream = match header.kind {
            frame::DATA
            | frame::HEADERS
            | frame::PRIORITY
            | frame::RST_STREAM
            | frame::CONTINUATION => true,
            frame::SETTINGS | frame::PING | frame::GOAWAY => false,
            frame::PUSH_PROMISE => return Err(Fatal(Code::PROTOCOL_ERROR)),
            _ => return Ok(()),
        };
        if of_stream == (header.stream == 0) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        Ok(())
    }

    fn frame<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        self.meter.received(header, 0).map_err(Fault::Flood)?;
        let exactly = |len| match payload.len() == len {
            true => Ok(()),
            false => Err(Fatal(Code::FRAME_SIZE_ERROR)),
        };
        let number = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        match header.kind {
            frame::HEADERS => return self.headers(header, payload),
            frame::CONTINUATION => return self.continuation(header, payload),
            frame::PRIORITY if payload.len() != 5 => {
                return match self.find(header.stream) {
                    Some(_) => Err(Fault::Stream(header.stream, Code::FRAME_SIZE_ERROR)),
                    None => Err(Fatal(Code::FRAME_SIZE_ERROR)),
                };
            }
            frame::PRIORITY if number(0) & LAST_STREAM == header.stream => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            frame::RST_STREAM => {
                exactly(4)?;
                self.reset_by_peer(header.stream, Code(number(0)))?;
            }
            frame::SETTINGS if header.has(frame::ACK) => exactly(0)?,
            frame::SETTINGS if !payload.len().is_multiple_of(6) => {
                return Err(Fatal(Code::FRAME_SIZE_ERROR));
            }
            frame::SETTINGS => self.settings(payload)?,
            frame::PING => {
                exactly(8)?;
                let payload = payload.first_chunk().copied().unwrap_or_default();
                self.ping(header.has(frame::ACK), payload);
            }
            frame::GOAWAY if payload.len() < 8 => return Err(Fatal(Code::FRAME_SIZE_ERROR)),
            frame::GOAWAY => self.left_by_peer(number(0) & LAST_STREAM),
            frame::WINDOW_UPDATE => {
                exactly(4)?;
                return self.window_update(header.stream, number(0) & LAST_STREAM);
            }
            // RFC 9113 §5.5: unknown types mean nothing.
            _ => {}
        }
        Ok(Step::Nothing)
    }

    /// Whether a stream of this number could not have been used by now.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || self.last == u32::MAX || stream > self.last
    }

    pub(super) fn find(&self, stream: u32) -> Option<u32> {
        let at = self.index.binary_search_by_key(&stream, |(number, _)| *number).ok()?;
        Some(self.index[at].1)
    }

    pub(super) fn at(&mut self, key: Key) -> Option<&mut Stream<T>> {
        let stream = self.streams.get_mut(key.place as usize)?.as_mut()?;
        (stream.number == key.stream).then_some(stream)
    }

    fn headers<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        let mut block = payload;
        if header.has(frame::PADDED) {
            let (&padding, rest) = block.split_first().ok_or(Fatal(Code::FRAME_SIZE_ERROR))?;
            let len = rest.len().checked_sub(padding.into());
            block = &rest[..len.ok_or(Fatal(Code::PROTOCOL_ERROR))?];
        }
        let mut absurd = false;
        if header.has(frame::WITH_PRIORITY) {
            let (priority, rest) =
                block.split_first_chunk::<5>().ok_or(Fatal(Code::FRAME_SIZE_ERROR))?;
            let [a, b, c, d, _] = *priority;
            absurd = u32::from_be_bytes([a, b, c, d]) & LAST_STREAM == header.stream;
            block = rest;
        }
        // What may not begin at all is no matter of its stream.
        let known = self.find(header.stream).is_some();
        match self.role {
            _ if known => {}
            Role::Server if header.stream.is_multiple_of(2) => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            Role::Server if !self.is_idle(header.stream) => {
                return Err(Fatal(Code::STREAM_CLOSED));
            }
            Role::Client if self.is_idle(header.stream) => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            Role::Server | Role::Client => {}
        }
        let head = Heading { stream: header.stream, ends: header.has(frame::END_STREAM), absurd };
        if header.has(frame::END_HEADERS) {
            return self.head(head, block);
        }
        self.block = Some(Block { head, bytes: block.to_vec() });
        Ok(Step::Nothing)
    }

    fn continuation<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        let Some(block) = &mut self.block else { return Err(Fatal(Code::PROTOCOL_ERROR)) };
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > BLOCK_TIMES_MAX * self.head_bytes_max {
            return Err(Fatal(Code::ENHANCE_YOUR_CALM));
        }
        if !header.has(frame::END_HEADERS) {
            return Ok(Step::Nothing);
        }
        match self.block.take() {
            Some(Block { head, bytes }) => self.head(head, &bytes),
            None => Ok(Step::Nothing),
        }
    }

    /// A head is complete.
    fn head<'i>(&mut self, head: Heading, block: &[u8]) -> Result<Step<'i>, Fault> {
        let Heading { stream: number, ends, absurd } = head;
        self.fields.shrink();
        // Whatever becomes of it: the table must follow.
        self.decoder.decode(block, &mut self.fields).map_err(|error| match error {
            Unreadable::Invalid => Fatal(Code::COMPRESSION_ERROR),
            Unreadable::TooMuch => Fatal(Code::ENHANCE_YOUR_CALM),
        })?;
        let known = self.find(number);
        let place = match known {
            Some(place) => place,
            None if self.role == Role::Client => return Ok(Step::Nothing),
            None => {
                self.last = number;
                if self.live >= self.streams_max || self.leaving == Leaving::Final {
                    return Err(Fault::Stream(number, Code::REFUSED_STREAM));
                }
                self.open(number, None)
            }
        };
        if absurd {
            return Err(Fault::Stream(number, Code::PROTOCOL_ERROR));
        }
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(Step::Nothing) };
        if stream.user.is_none() && known.is_some() {
            if ends {
                self.remove(place);
            }
            return Ok(Step::Nothing);
        }
        let is_new = stream.receives == Half::Head;
        match stream.receives {
            Half::Ended => return Err(Fault::Stream(number, Code::STREAM_CLOSED)),
            // RFC 9113 §8.1: behind a body there is one head, which ends the message.
            Half::Body if !ends => return Err(Fault::Stream(number, Code::PROTOCOL_ERROR)),
            Half::Head | Half::Body => {}
        }
        if self.role == Role::Server && is_new {
            stream.receives = Half::Body;
            if ends {
                stream.receives = Half::Ended;
            }
            return Ok(Step::Request { place, ended: ends });
        }
        if is_new {
            let interim = message::status(&self.fields).is_some_and(|status| status / 100 == 1);
            if interim && ends {
                return Err(Fault::Stream(number, Code::PROTOCOL_ERROR));
            }
            if !interim {
                stream.receives = Half::Body;
            }
        }
        if ends {
            self.end_received(place)?;
        }
        Ok(match is_new {
            true => Step::Answer { place, ended: ends },
            false => Step::Trailers { place },
        })
    }

    /// What comes of the stream is complete.
    fn end_received(&mut self, place: u32) -> Result<(), Fault> {
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(()) };
        if stream.length.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(stream.number, Code::PROTOCOL_ERROR));
        }
        stream.receives = Half::Ended;
        if stream.user.is_none() {
            self.remove(place);
        }
        Ok(())
    }

    /// A DATA frame, of which nothing but the header and the length of its padding was seen.
    fn begin_data<'i>(
        &mut self,
        header: FrameHeader,
        padding: Option<u8>,
    ) -> Result<Step<'i>, Fault> {
        let said = padding.map_or(0, |n| 1 + u32::from(n));
        let data = header.len.checked_sub(said).ok_or(Fatal(Code::PROTOCOL_ERROR))?;
        self.meter.received(header, data).map_err(Fault::Flood)?;
        if self.is_idle(header.stream) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        self.receive_window -= i64::from(header.len);
        if self.receive_window < 0 {
            return Err(Fatal(Code::FLOW_CONTROL_ERROR));
        }
        // Padding counts, and nobody will take it.
        self.give_back(said);
        let key = match self.find(header.stream) {
            Some(place) => Key { place, stream: header.stream },
            None => Key { place: u32::MAX, stream: header.stream },
        };
        let ends = header.has(frame::END_STREAM);
        self.payload = Some(Payload { key, data, padding: padding.map_or(0, u32::from), ends });
        let role = self.role;
        let Some(stream) = self.at(key) else {
            // RFC 9113 §5.1: a server's answer may be on its way to a client that has lost interest.
            return match role {
                Role::Server => Err(Fault::Stream(header.stream, Code::STREAM_CLOSED)),
                Role::Client => Ok(Step::Nothing),
            };
        };
        if stream.user.is_none() {
            return Ok(Step::Nothing);
        }
        let code = match stream.receives {
            Half::Ended => Some(Code::STREAM_CLOSED),
            Half::Head => Some(Code::PROTOCOL_ERROR),
            Half::Body => None,
        };
        if let Some(code) = code {
            return Err(Fault::Stream(header.stream, code));
        }
        stream.receive_window -= i64::from(header.len);
        if stream.receive_window < 0 {
            return Err(Fault::Stream(header.stream, Code::FLOW_CONTROL_ERROR));
        }
        if let Some(left) = &mut stream.length {
            match left.checked_sub(data.into()) {
                Some(less) => *left = less,
                None => return Err(Fault::Stream(header.stream, Code::PROTOCOL_ERROR)),
            }
        }
        stream.unreleased += said;
        Ok(Step::Nothing)
    }

    /// The next bytes of a DATA frame.
    fn data<'i>(&mut self, payload: Payload, input: &mut &'i [u8]) -> Option<Step<'i>> {
        let Payload { key, mut data, mut padding, ends } = payload;
        let (now, rest) = input.split_at(input.len().min(data as usize));
        data -= now.len() as u32;
        let skipped = if data == 0 { rest.len().min(padding as usize) } else { 0 };
        padding -= skipped as u32;
        *input = &rest[skipped..];
        let over = data == 0 && padding == 0;
        self.payload = (!over).then_some(Payload { key, data, padding, ends });
        let ended = over && ends;
        let used = self.at(key).is_some_and(|stream| stream.user.is_some());
        if !used {
            self.give_back(now.len() as u32);
            if ended && self.at(key).is_some() {
                self.remove(key.place);
            }
        }
        if ended
            && used
            && let Err(fault) = self.end_received(key.place)
        {
            if let Fault::Stream(stream, code) = fault {
                self.give_back(now.len() as u32);
                self.fault(stream, code);
            }
            return Some(Step::Nothing);
        }
        match used && (ended || !now.is_empty()) {
            true => Some(Step::Data { place: key.place, data: now, ended }),
            false if over => Some(Step::Nothing),
            false => None,
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let takes_tunnels = self.takes_tunnels.get_or_insert(false);
        for setting in payload.chunks_exact(6) {
            let &[a, b, c, d, e, f] = setting else { continue };
            let (id, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            match id {
                frame::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
                frame::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                    return Err(Fatal(Code::PROTOCOL_ERROR));
                }
                frame::MAX_CONCURRENT_STREAMS if self.role == Role::Client => {
                    self.streams_max = value;
                }
                frame::INITIAL_WINDOW_SIZE => {
                    if i64::from(value) > frame::WINDOW_MAX {
                        return Err(Fatal(Code::FLOW_CONTROL_ERROR));
                    }
                    let more = i64::from(value) - i64::from(self.peer_window);
                    self.peer_window = value;
                    self.windows_grew |= more > 0;
                    for stream in self.streams.iter_mut().flatten() {
                        stream.send_window += more;
                        if stream.send_window > frame::WINDOW_MAX {
                            return Err(Fatal(Code::FLOW_CONTROL_ERROR));
                        }
                    }
                }
                frame::MAX_FRAME_SIZE => match value as usize {
                    frame::PAYLOAD_BYTES_MAX..=0xff_ffff => {}
                    _ => return Err(Fatal(Code::PROTOCOL_ERROR)),
                },
                frame::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Fatal(Code::PROTOCOL_ERROR));
                }
                // RFC 8441 §3: it is not taken back.
                frame::ENABLE_CONNECT_PROTOCOL => *takes_tunnels |= value == 1,
                _ => {}
            }
        }
        frame::write_settings_ack(&mut self.out);
        Ok(())
    }

    fn ping(&mut self, answers: bool, payload: [u8; 8]) {
        match payload {
            _ if !answers => frame::write_ping(&mut self.out, frame::ACK, payload),
            LEAVING if self.leaving == Leaving::Told => {
                self.leaving = Leaving::Final;
                frame::write_go_away(&mut self.out, self.last, Code::NO_ERROR);
            }
            ALIVE => self.asked = false,
            _ => {}
        }
    }

    fn window_update<'i>(&mut self, number: u32, more: u32) -> Result<Step<'i>, Fault> {
        if number == 0 {
            self.send_window += i64::from(more);
            return match more {
                0 => Err(Fatal(Code::PROTOCOL_ERROR)),
                _ if self.send_window > frame::WINDOW_MAX => Err(Fatal(Code::FLOW_CONTROL_ERROR)),
                _ => Ok(Step::Nothing),
            };
        }
        if self.is_idle(number) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        let Some(place) = self.find(number) else { return Ok(Step::Nothing) };
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(Step::Nothing) };
        if stream.user.is_none() {
            return Ok(Step::Nothing);
        }
        stream.send_window += i64::from(more);
        match more {
            0 => Err(Fault::Stream(number, Code::PROTOCOL_ERROR)),
            _ if stream.send_window > frame::WINDOW_MAX => {
                Err(Fault::Stream(number, Code::FLOW_CONTROL_ERROR))
            }
            _ => Ok(Step::Room { place }),
        }
    }

    fn reset_by_peer(&mut self, number: u32, code: Code) -> Result<(), Fault> {
        if self.is_idle(number) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        if let Some(place) = self.find(number) {
            let failure = match code {
                Code::REFUSED_STREAM => Failure::Unprocessed,
                code => Failure::Reset(code),
            };
            self.fail(place, failure);
        }
        Ok(())
    }

    fn left_by_peer(&mut self, last: u32) {
        self.peer_leaves = true;
        if self.role == Role::Server {
            return;
        }
        let beyond = self.index.partition_point(|(number, _)| *number <= last);
        while let Some(&(_, place)) = self.index.get(beyond) {
            self.fail(place, Failure::Unprocessed);
        }
    }

    /// Ends a stream for what the peer did on it.
    pub(super) fn fault(&mut self, number: u32, code: Code) {
        if let Some(place) = self.find(number) {
            self.end(place, Some(Failure::Malformed));
        }
        self.reset(number, code);
    }

    /// The stream is over for both sides.
    fn fail(&mut self, place: u32, failure: Failure) {
        if let Some(user) = self.remove(place) {
            self.failed.push((user, failure));
        }
    }

    /// The stream is over for us; what the peer has sent before it knows is dropped.
    pub(super) fn end(&mut self, place: u32, failure: Option<Failure>) {
        let Some(stream) = &mut self.streams[place as usize] else { return };
        if let Some(user) = stream.user.take() {
            self.live -= 1;
            self.failed.extend(failure.map(|failure| (user, failure)));
        }
        stream.sends = Half::Ended;
        let (number, ended) = (stream.number, stream.receives == Half::Ended);
        if ended {
            self.remove(place);
            return;
        }
        self.ended.push_back(number);
        if self.ended.len() > ENDED_STREAMS_MAX
            && let Some(oldest) = self.ended.pop_front()
            && let Some(place) = self.find(oldest)
        {
            self.remove(place);
        }
    }

    pub(super) fn open(&mut self, number: u32, user: Option<T>) -> u32 {
        let stream = Stream {
            number,
            user,
            receives: Half::Head,
            sends: Half::Head,
            send_window: self.peer_window.into(),
            receive_window: OWN_WINDOW_BYTES.into(),
            window: OWN_WINDOW_BYTES,
            unreleased: 0,
            length: None,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.streams[place as usize] = Some(stream);
                place
            }
            None => {
                self.streams.push(Some(stream));
                self.streams.len() as u32 - 1
            }
        };
        // Numbers only grow.
        self.index.push((number, place));
        place
    }

    /// Forgets a stream; gives its user, if it has one.
    fn remove(&mut self, place: u32) -> Option<T> {
        let stream = self.streams[place as usize].take()?;
        self.free.push(place);
        if let Ok(at) = self.index.binary_search_by_key(&stream.number, |(number, _)| *number) {
            self.index.remove(at);
        }
        self.live -= u32::from(stream.user.is_some());
        self.spare += stream.window - OWN_WINDOW_BYTES;
        stream.user
    }

    /// The peer may send so many more bytes on the connection.
    pub(super) fn give_back(&mut self, bytes: u32) {
        self.unreleased += bytes;
        // The sooner, the less is left: most may be held by streams that are not passed on.
        let most = i64::from(CONNECTION_WINDOW_BYTES / 2).min(self.receive_window);
        if self.unreleased > 0 && i64::from(self.unreleased) >= most {
            frame::write_window_update(&mut self.out, 0, self.unreleased);
            self.receive_window += i64::from(self.unreleased);
            self.unreleased = 0;
        }
    }
}

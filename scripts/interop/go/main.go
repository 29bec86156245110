// Calls the echo service with grpc-go, through whatever is given, or serves it.
//
//	interop GROUP[=VALUE] NAME=HOST:PORT [NAME=HOST:PORT ...]
//	interop serve HOST:PORT
//
// Prints a line a case and target, `CLIENT | TARGET | CASE | OUTCOME`, and exits
// with 1 if any failed. What each case is about is said in client.py, whose cases
// have the same names.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Far above what anything takes; a bound and no measure.
const patience = 60 * time.Second
const largeBytes = 4 << 20

var sizes = [][2]int{{27182, 31415}, {8, 9}, {1828, 2653}, {45904, 58979}}

// value is what follows the group's name.
var value string

// client is one channel.
type client struct {
	*grpc.ClientConn
	address string
}

func connect(address string) client {
	channel, err := grpc.NewClient("passthrough:"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	must(err)
	return client{channel, address}
}

// failure is what a case panics with; main makes a line of it.
type failure struct{ error }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func assert(holds bool, format string, given ...any) {
	if !holds {
		must(fmt.Errorf(format, given...))
	}
}

func request(number int, body []byte, wanted, count int) []byte {
	return message{
		map[protowire.Number]uint64{sequence: uint64(number), responseBytes: uint64(wanted), responseCount: uint64(count)},
		map[protowire.Number][]byte{payload: body},
	}.encode()
}

func check(data []byte, number int, body []byte) {
	response, err := decode(data)
	must(err)
	assert(response.numbers[sequence] == uint64(number), "sequence %d for %d", response.numbers[sequence], number)
	assert(bytes.Equal(response.bytes[payload], body), "the payload changed on its way")
	assert(string(response.bytes[backend]) == "interop", "backend %q", response.bytes[backend])
}

// within is a context with a deadline and metadata, given as pairs.
func within(limit time.Duration, pairs ...string) context.Context {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), pairs...), limit)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func (c client) call(ctx context.Context, method string, data []byte, options ...grpc.CallOption) ([]byte, error) {
	var response []byte
	err := c.Invoke(ctx, method, &data, &response, options...)
	return response, err
}

func (c client) unary(ctx context.Context, data []byte, options ...grpc.CallOption) ([]byte, error) {
	return c.call(ctx, service+"Unary", data, options...)
}

// open begins a stream of any kind.
func (c client) open(ctx context.Context, name string, options ...grpc.CallOption) stream {
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := c.NewStream(ctx, both, service+name, options...)
	must(err)
	return stream{opened}
}

type stream struct{ grpc.ClientStream }

func (s stream) send(messages ...[]byte) stream {
	for _, data := range messages {
		must(s.SendMsg(&data))
	}
	return s
}

func (s stream) next() ([]byte, error) {
	var data []byte
	err := s.RecvMsg(&data)
	return data, err
}

// rest ends the requests; gives the messages left, and how the stream ended.
func (s stream) rest() ([][]byte, error) {
	must(s.CloseSend())
	var messages [][]byte
	for {
		data, err := s.next()
		if err == io.EOF {
			return messages, nil
		} else if err != nil {
			return messages, err
		}
		messages = append(messages, data)
	}
}

// all ends the requests and checks that there are so many more messages, and OK.
func (s stream) all(count int) [][]byte {
	messages, err := s.rest()
	must(err)
	assert(len(messages) == count, "%d messages for %d", len(messages), count)
	return messages
}

func expect(code codes.Code, err error) string {
	assert(status.Code(err) == code, "%v was expected: %v", code, err)
	return status.Convert(err).Message()
}

func emptyUnary(c client) {
	data, err := c.unary(within(patience), nil)
	must(err)
	check(data, 0, nil)
}

func largeUnary(c client) {
	data, err := c.unary(within(patience), request(1, make([]byte, 271828), 314159, 0))
	must(err)
	check(data, 1, make([]byte, 314159))
}

func manyInTurn(c client) {
	for n := range 50 {
		data, err := c.unary(within(patience), request(n, []byte("hello"), 5, 0))
		must(err)
		check(data, n, []byte("hello"))
	}
}

// atOnce runs work this often at once; gives the errors in order.
func atOnce(count int, work func(n int) error) []error {
	errs := make([]error, count)
	var all sync.WaitGroup
	for n := range count {
		all.Go(func() { errs[n] = caught(func() { must(work(n)) }) })
	}
	all.Wait()
	return errs
}

func manyAtOnce(c client) {
	for _, err := range atOnce(300, func(n int) error {
		data, err := c.unary(within(patience), request(n, make([]byte, n), n, 0))
		must(err)
		check(data, n, make([]byte, n))
		return nil
	}) {
		must(err)
	}
}

func manyChannels(c client) {
	for range 20 {
		another := connect(c.address)
		emptyUnary(another)
		must(another.Close())
	}
}

func clientStreaming(c client) {
	s := c.open(within(patience), "ClientStream")
	for _, size := range sizes {
		s.send(request(size[0], make([]byte, size[0]), size[0], 0))
	}
	last := sizes[len(sizes)-1][0]
	check(s.all(1)[0], last, make([]byte, last))
}

func serverStreaming(c client) {
	for n, size := range sizes {
		for _, data := range c.open(within(patience), "ServerStream").send(request(n, nil, size[1], 25)).all(25) {
			check(data, n, make([]byte, size[1]))
		}
	}
}

func pingPong(c client) {
	s := c.open(within(patience), "Bidi")
	for n := range 100 {
		size := sizes[n%len(sizes)]
		data, err := s.send(request(n, make([]byte, size[0]), size[1], 0)).next()
		must(err)
		check(data, n, make([]byte, size[1]))
	}
	s.all(0)
}

func emptyStream(c client) { c.open(within(patience), "Bidi").all(0) }

func largeMessages(c client) {
	body := bytes.Repeat([]byte("0123456789abcdef"), largeBytes/16)
	data, err := c.unary(within(patience), request(0, body, largeBytes, 0))
	must(err)
	check(data, 0, body)
	one := request(7, body, largeBytes, 0)
	for _, data := range c.open(within(patience), "Bidi").send(one, one, one).all(3) {
		check(data, 7, body)
	}
}

func everyByte() string {
	every := make([]byte, 256)
	for n := range every {
		every[n] = byte(n)
	}
	return string(every)
}

func metadataIsTaken(c client) {
	ctx := within(patience, "x-text", "plain", "x-twice", "1", "x-twice", "2", "x-data-bin", everyByte())
	data, err := c.unary(ctx, request(1, []byte("m"), 1, 0))
	must(err)
	check(data, 1, []byte("m"))
}

func invalidArgument(c client) {
	_, err := c.unary(within(patience), request(1, nil, 1<<30, 0))
	details := expect(codes.InvalidArgument, err)
	assert(strings.Contains(details, "response_bytes"), "%q", details)
}

func unimplementedMethod(c client) {
	_, err := c.call(within(patience), service+"Missing", nil)
	expect(codes.Unimplemented, err)
}

func unimplementedService(c client) {
	_, err := c.call(within(patience), "/layerlab.Missing/Unary", nil)
	expect(codes.Unimplemented, err)
}

func cancelAfterBegin(c client) {
	ctx, cancel := context.WithCancel(within(patience))
	s := c.open(ctx, "ClientStream")
	cancel()
	_, err := s.next()
	expect(codes.Canceled, err)
	emptyUnary(c)
}

func cancelAfterFirstResponse(c client) {
	ctx, cancel := context.WithCancel(within(patience))
	s := c.open(ctx, "Bidi").send(request(1, []byte("one"), 3, 0))
	data, err := s.next()
	must(err)
	check(data, 1, []byte("one"))
	cancel()
	_, err = s.next()
	expect(codes.Canceled, err)
	// The connection is none the worse.
	emptyUnary(c)
}

func timeoutOnOpenStream(c client) {
	s := c.open(within(500*time.Millisecond), "Bidi").send(request(1, []byte("one"), 3, 0))
	data, err := s.next()
	must(err)
	check(data, 1, []byte("one"))
	_, err = s.next()
	expect(codes.DeadlineExceeded, err)
}

func timeoutOnSleepingServer(c client) {
	_, err := c.unary(within(100*time.Millisecond, "x-delay-ms", "20000"), request(1, nil, 0, 0))
	expect(codes.DeadlineExceeded, err)
	emptyUnary(c)
}

func customMetadata(c client) {
	trailing := []string{everyByte(), "\xab\xab\xab", ""}
	pairs := []string{"x-initial", "first, of two", "x-initial", "second"}
	for _, one := range trailing {
		pairs = append(pairs, "x-trailing-bin", one)
	}
	var header, trailer metadata.MD
	verify := func() {
		// Repeated values may come as one, joined by commas.
		values := strings.ReplaceAll(strings.Join(header.Get("x-initial"), ", "), ",second", ", second")
		assert(values == "first, of two, second", "%q", values)
		assert(slices.Equal(trailer.Get("x-trailing-bin"), trailing), "%q", trailer.Get("x-trailing-bin"))
	}
	_, err := c.unary(within(patience, pairs...), request(1, nil, 0, 0), grpc.Header(&header), grpc.Trailer(&trailer))
	must(err)
	verify()
	s := c.open(within(patience, pairs...), "Bidi").send(request(1, nil, 0, 0))
	s.all(1)
	header, err = s.Header()
	must(err)
	trailer = s.Trailer()
	verify()
}

func statusCodeAndMessage(c client) {
	for code := codes.Code(1); code <= 16; code++ {
		wanted := "test status message " + code.String()
		pairs := []string{"x-status", strconv.Itoa(int(code)), "x-message-bin", wanted}
		_, err := c.unary(within(patience, pairs...), request(1, nil, 0, 0))
		details := expect(code, err)
		assert(details == wanted, "%q", details)
		_, err = c.open(within(patience, pairs...), "Bidi").send(request(1, nil, 0, 0)).rest()
		details = expect(code, err)
		assert(details == wanted, "%q", details)
	}
}

func specialStatusMessage(c client) {
	wanted := "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈 and 100 %\t\n"
	_, err := c.unary(within(patience, "x-status", "2", "x-message-bin", wanted), request(1, nil, 0, 0))
	details := expect(codes.Unknown, err)
	assert(details == wanted, "%q", details)
}

func statusAfterResponses(c client) {
	ctx := within(patience, "x-status", "9", "x-message-bin", "too late", "x-trailing-bin", "\x00why")
	s := c.open(ctx, "ServerStream").send(request(1, []byte("r"), 1, 5))
	messages, err := s.rest()
	assert(len(messages) == 5, "%d messages for 5", len(messages))
	assert(expect(codes.FailedPrecondition, err) == "too late", "%v", err)
	assert(slices.Equal(s.Trailer().Get("x-trailing-bin"), []string{"\x00why"}), "%v", s.Trailer())
}

func deadlineIsPassedOn(c client) {
	remaining := func(ctx context.Context) []string {
		var trailer metadata.MD
		_, err := c.unary(ctx, request(1, nil, 0, 0), grpc.Trailer(&trailer))
		must(err)
		return trailer.Get("x-remaining-ms")
	}
	given := remaining(within(patience))
	assert(len(given) == 1, "%q", given)
	ms, err := strconv.Atoi(given[0])
	must(err)
	assert(ms > 0 && int64(ms) <= patience.Milliseconds()*101/100, "%d ms", ms)
	assert(len(remaining(context.Background())) == 0, "a deadline that nobody set")
}

func compressedMessages(c client) {
	body := make([]byte, 100_000)
	one := request(1, body, len(body), 0)
	s := c.open(within(patience), "Bidi", grpc.UseCompressor(gzip.Name)).send(one, one, one)
	for _, data := range s.all(3) {
		check(data, 1, body)
	}
}

// summarise fails unless there was a call and each of them is well.
func summarise(errs []error) {
	outcomes, failed := map[string]int{}, 0
	for _, err := range errs {
		if err != nil {
			outcomes[err.Error()[:min(150, len(err.Error()))]]++
			failed++
		}
	}
	assert(len(errs) > 0 && failed == 0, "%d of %d calls: %v", failed, len(errs), outcomes)
}

func burst(count int) func(client) {
	return func(c client) {
		emptyUnary(c)
		summarise(atOnce(count, func(n int) error {
			_, err := c.unary(within(patience, "x-delay-ms", "200"), request(n, []byte("x"), 1, 0))
			return err
		}))
	}
}

func seconds() time.Duration {
	given, err := strconv.ParseFloat(value, 64)
	must(err)
	return time.Duration(given * float64(time.Second))
}

func quietStream(c client) {
	silence := strconv.FormatInt(seconds().Milliseconds(), 10)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-delay-ms", silence)
	c.open(ctx, "ServerStream").send(request(1, nil, 0, 2)).all(2)
}

func afterSilence(c client) {
	time.Sleep(seconds())
	for range 4 {
		must(ofItsOwnConnection(c))
	}
}

func acceptQueue(c client) {
	count, err := strconv.Atoi(value)
	must(err)
	time.AfterFunc(100*time.Millisecond, func() { fmt.Println("under way") })
	summarise(atOnce(count, func(int) error { return ofItsOwnConnection(c) }))
}

func short(c client) error {
	_, err := c.unary(within(patience, "x-delay-ms", "50"), request(1, nil, 0, 0))
	return err
}

func shortStream(c client) error {
	c.open(within(patience, "x-delay-ms", "50"), "ServerStream").send(request(1, nil, 0, 10)).all(10)
	return nil
}

func ofItsOwnConnection(c client) error {
	another := connect(c.address)
	defer another.Close()
	return short(another)
}

func load(workers ...func(client) error) func(client) {
	return func(c client) {
		var mutex sync.Mutex
		var errs []error
		var ready sync.WaitGroup
		ready.Add(len(workers))
		go func() {
			ready.Wait()
			fmt.Println("under way")
		}()
		atOnce(len(workers), func(n int) error {
			for nth := 0; ; nth++ {
				if _, err := os.Stat(value); err == nil && nth > 0 {
					return nil
				}
				err := caught(func() { must(workers[n](c)) })
				mutex.Lock()
				errs = append(errs, err)
				mutex.Unlock()
				if nth == 0 {
					ready.Done()
				}
			}
		})
		summarise(errs)
	}
}

func caught(work func()) (err error) {
	defer func() {
		switch panicked := recover().(type) {
		case nil:
		case failure:
			err = panicked.error
		default:
			panic(panicked)
		}
	}()
	work()
	return nil
}

// named is a case with its name.
type named struct {
	name string
	run  func(client)
}

func groups() map[string][]named {
	own := slices.Repeat([]func(client) error{ofItsOwnConnection}, 4)
	shared := append(slices.Repeat([]func(client) error{short}, 16), slices.Repeat([]func(client) error{shortStream}, 4)...)
	mixed := load(append(shared, own...)...)
	return map[string][]named{
		"everywhere": {
			{"empty_unary", emptyUnary},
			{"large_unary", largeUnary},
			{"many_in_turn", manyInTurn},
			{"many_at_once", manyAtOnce},
			{"many_channels", manyChannels},
			{"client_streaming", clientStreaming},
			{"server_streaming", serverStreaming},
			{"ping_pong", pingPong},
			{"empty_stream", emptyStream},
			{"large_messages", largeMessages},
			{"metadata_is_taken", metadataIsTaken},
			{"invalid_argument", invalidArgument},
			{"unimplemented_method", unimplementedMethod},
			{"unimplemented_service", unimplementedService},
			{"cancel_after_begin", cancelAfterBegin},
			{"cancel_after_first_response", cancelAfterFirstResponse},
			{"timeout_on_open_stream", timeoutOnOpenStream},
		},
		"by_metadata": {
			{"timeout_on_sleeping_server", timeoutOnSleepingServer},
			{"custom_metadata", customMetadata},
			{"status_code_and_message", statusCodeAndMessage},
			{"special_status_message", specialStatusMessage},
			{"status_after_responses", statusAfterResponses},
			{"deadline_is_passed_on", deadlineIsPassedOn},
			{"compressed_messages", compressedMessages},
		},
		"bursts":                {{"burst_550", burst(550)}, {"burst_1000", burst(1000)}},
		"quiet_stream":          {{"quiet_stream", quietStream}},
		"after_silence":         {{"after_silence", afterSilence}},
		"accept_queue":          {{"accept_queue", acceptQueue}},
		"drain":                 {{"drain", mixed}},
		"drain_own_connections": {{"drain_own_connections", load(own...)}},
		"backends_restart":      {{"backends_restart", mixed}},
	}
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(3)
		}
		return
	}
	var group string
	if len(os.Args) > 2 {
		group, value, _ = strings.Cut(os.Args[1], "=")
	}
	cases := groups()[group]
	if cases == nil {
		fmt.Fprintln(os.Stderr, "usage: interop GROUP[=VALUE] NAME=HOST:PORT ..., or: interop serve HOST:PORT")
		os.Exit(2)
	}
	code := 0
	for _, target := range os.Args[2:] {
		name, address, _ := strings.Cut(target, "=")
		for _, one := range cases {
			c := connect(address)
			outcome := "ok"
			if err := caught(func() { one.run(c) }); err != nil {
				outcome, code = "FAILED: "+strings.ReplaceAll(err.Error(), "\n", " "), 1
			}
			c.Close()
			fmt.Printf("grpc-go | %s | %s | %s\n", name, one.name, outcome)
		}
	}
	os.Exit(code)
}

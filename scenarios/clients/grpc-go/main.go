// The calls of a scenario by grpc-go. What it reads and writes is in ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"
)

const (
	method          = "/layerlab.echo.v1.Echo/Unary"
	maxMessageBytes = 16 << 20
	readyTimeout    = 20 * time.Second
	wrongAnswer     = -1
)

type settings struct {
	Channels          int `json:"channels"`
	MaxConnections    int `json:"max_connections"`
	ResolveIntervalMs int `json:"resolve_interval_ms"`
	InitialBackoffMs  int `json:"initial_backoff_ms"`
}

type described struct {
	Target string `json:"target"`
	Policy string `json:"policy"`
}

// client is a client with its channels, which it uses in turn.
type client struct {
	channels []*grpc.ClientConn
	turn     int
}

func connect(one described, set settings) (*client, error) {
	target := one.Target
	if address, is := strings.CutPrefix(target, "ipv4:"); is {
		// grpc-go has no such scheme.
		target = "passthrough:///" + address
	}
	pause := backoff.DefaultConfig
	pause.BaseDelay = time.Duration(set.InitialBackoffMs) * time.Millisecond
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + one.Policy + `":{}}]}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: readyTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(raw{}),
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
			grpc.MaxCallSendMsgSize(maxMessageBytes),
		),
	}
	made := &client{}
	for range set.Channels {
		channel, err := grpc.NewClient(target, options...)
		if err != nil {
			return nil, err
		}
		made.channels = append(made.channels, channel)
	}
	return made, nil
}

func (c *client) connected(ctx context.Context) error {
	for _, channel := range c.channels {
		channel.Connect()
		for state := channel.GetState(); state != connectivity.Ready; state = channel.GetState() {
			if !channel.WaitForStateChange(ctx, state) {
				return fmt.Errorf("%s is %s after %s", channel.Target(), state, readyTimeout)
			}
		}
	}
	return nil
}

func (c *client) next() *grpc.ClientConn {
	channel := c.channels[c.turn]
	c.turn = (c.turn + 1) % len(c.channels)
	return channel
}

// raw passes messages as they are, so no generated code is needed.
type raw struct{}

func (raw) Name() string                      { return "proto" }
func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// request is an EchoRequest of proto/echo.proto: sequence, payload, response_bytes.
func request(sequence, requestBytes, responseBytes uint64) []byte {
	out := binary.AppendUvarint([]byte{0x08}, sequence)
	out = binary.AppendUvarint(append(out, 0x12), requestBytes)
	out = append(out, make([]byte, requestBytes)...)
	return binary.AppendUvarint(append(out, 0x18), responseBytes)
}

// fields are those of a message by their numbers: integers and bytes.
func fields(message []byte) (map[uint64]uint64, map[uint64][]byte, error) {
	numbers, texts := map[uint64]uint64{}, map[uint64][]byte{}
	for len(message) > 0 {
		key, ofKey := binary.Uvarint(message)
		if ofKey <= 0 {
			return nil, nil, errors.New("no key")
		}
		value, ofValue := binary.Uvarint(message[ofKey:])
		if ofValue <= 0 {
			return nil, nil, errors.New("no value")
		}
		message = message[ofKey+ofValue:]
		switch key & 7 {
		case 0:
			numbers[key>>3] = value
		case 2:
			if value > uint64(len(message)) {
				return nil, nil, errors.New("it is cut off")
			}
			texts[key>>3], message = message[:value], message[value:]
		default:
			return nil, nil, errors.New("no such type")
		}
	}
	return numbers, texts, nil
}

// call makes a call, and says what came of it.
func call(channel *grpc.ClientConn, sequence, requestBytes, responseBytes uint64) string {
	message, answer := request(sequence, requestBytes, responseBytes), []byte(nil)
	err := channel.Invoke(context.Background(), method, &message, &answer)
	if code := status.Code(err); code != codes.OK {
		return fmt.Sprintf("%d - 0 0", code)
	}
	numbers, texts, err := fields(answer)
	result, backend := wrongAnswer, "-"
	if err == nil && numbers[1] == sequence && uint64(len(texts[2])) == responseBytes {
		result = 0
	}
	if len(texts[3]) > 0 {
		backend = string(texts[3])
	}
	return fmt.Sprintf("%d %s %d %d", result, backend, numbers[4], numbers[5])
}

// write writes lines, together where several are there.
func write(lines <-chan string) {
	out := bufio.NewWriter(os.Stdout)
	for line := range lines {
		out.WriteString(line)
		if len(lines) == 0 {
			out.Flush()
		}
	}
}

func run() error {
	in := bufio.NewReader(os.Stdin)
	first, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var hello struct {
		Clients  []described `json:"clients"`
		Settings settings    `json:"settings"`
	}
	if err := json.Unmarshal(first, &hello); err != nil {
		return err
	}
	if hello.Settings.MaxConnections > 1 {
		return errors.New("grpc-go has one connection to an address (no gRFC A105)")
	}
	dns.SetMinResolutionInterval(time.Duration(hello.Settings.ResolveIntervalMs) * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	var clients []*client
	for _, one := range hello.Clients {
		made, err := connect(one, hello.Settings)
		if err != nil {
			return err
		}
		clients = append(clients, made)
	}
	for _, one := range clients {
		if err := one.connected(ctx); err != nil {
			return err
		}
	}
	lines := make(chan string, 1024)
	go write(lines)
	lines <- "ready\n"
	for {
		// The end of the input is the end of the program.
		line, err := in.ReadString('\n')
		if err != nil {
			return nil
		}
		var number, slot int
		var sequence, requestBytes, responseBytes uint64
		if _, err := fmt.Sscanf(line, "call %d %d %d %d %d",
			&number, &slot, &sequence, &requestBytes, &responseBytes); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		channel := clients[number].next()
		go func() {
			came := call(channel, sequence, requestBytes, responseBytes)
			lines <- fmt.Sprintf("done %d %d %s\n", number, slot, came)
		}()
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println(grpc.Version)
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

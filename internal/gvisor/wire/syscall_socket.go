package wire

// Socket is a call of socket.
type Socket struct {
	Call
	Domain, Type, Protocol int32
}

// MessageType implements Message.
func (*Socket) MessageType() Type { return TypeSyscallSocket }

func (x *Socket) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Domain)
	integer(c, 5, &x.Type)
	integer(c, 6, &x.Protocol)
}

// SocketPair is a call of socketpair.
type SocketPair struct {
	Call
	Domain, Type, Protocol, Socket1, Socket2 int32
}

// MessageType implements Message.
func (*SocketPair) MessageType() Type { return TypeSyscallSocketpair }

func (x *SocketPair) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.Domain)
	integer(c, 5, &x.Type)
	integer(c, 6, &x.Protocol)
	integer(c, 7, &x.Socket1)
	integer(c, 8, &x.Socket2)
}

// Connect is a call of connect. The address is a raw sockaddr.
type Connect struct {
	Call
	FD              int64
	FDPath, Address []byte
}

// MessageType implements Message.
func (*Connect) MessageType() Type { return TypeSyscallConnect }

func (x *Connect) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Address)
}

// Bind is a call of bind. The address is a raw sockaddr.
type Bind struct {
	Call
	FD              int32
	FDPath, Address []byte
}

// MessageType implements Message.
func (*Bind) MessageType() Type { return TypeSyscallBind }

func (x *Bind) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Address)
}

// Listen is a call of listen. The address, a raw sockaddr, is that of the socket.
type Listen struct {
	Call
	FD                       int32
	FDPath                   []byte
	Backlog                  int32
	Address                  []byte
	SocketFamily, SocketType int32
}

// MessageType implements Message.
func (*Listen) MessageType() Type { return TypeSyscallListen }

func (x *Listen) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	integer(c, 6, &x.Backlog)
	text(c, 7, &x.Address)
	integer(c, 8, &x.SocketFamily)
	integer(c, 9, &x.SocketType)
}

// Accept is a call of accept or accept4. The address is a raw sockaddr.
type Accept struct {
	Call
	FD              int32
	FDPath, Address []byte
	Flags           int32
}

// MessageType implements Message.
func (*Accept) MessageType() Type { return TypeSyscallAccept }

func (x *Accept) fields(c *coder) {
	x.Call.fields(c)
	integer(c, 4, &x.FD)
	text(c, 5, &x.FDPath)
	text(c, 6, &x.Address)
	integer(c, 7, &x.Flags)
}

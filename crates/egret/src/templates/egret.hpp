// What the C++ headers of all models compiled by Egret share; it is read once. Exceptions are left out where the compiler has them
// off, or where EGRET_NO_EXCEPTIONS is defined; then every object is made with std::nothrow and asked for its error.
#ifndef EGRET_CPP_2
#define EGRET_CPP_2

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#if !defined(EGRET_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define EGRET_NO_EXCEPTIONS
#endif
#ifndef EGRET_NO_EXCEPTIONS
#include <stdexcept>
#include <string>
#endif

namespace egret {

/// What a call of a model came to: nothing (`false`), or why it failed.
class [[nodiscard]] Error {
public:
    constexpr Error() noexcept = default;
    /// What a function of the C header returned.
    constexpr explicit Error(std::int32_t value) noexcept : value_(value) {}
    constexpr explicit operator bool() const noexcept { return value_ != 0; }
    /// `EGRET_E_*` of the C header.
    constexpr int code() const noexcept { return EGRET_ERROR_CODE(value_); }
    /// The tensor at fault, inputs first, then outputs; for EGRET_E_INDEX the kernel, for EGRET_E_SIZES the condition (0: none).
    constexpr int index() const noexcept {
        return code() == EGRET_E_INDEX || code() == EGRET_E_SIZES ? EGRET_ERROR_KERNEL(value_) : EGRET_ERROR_INDEX(value_);
    }
    constexpr std::int32_t value() const noexcept { return value_; }
    /// The code in words.
    const char *what() const noexcept { return egret_error_string(value_); }

private:
    std::int32_t value_ = 0;
};

#ifndef EGRET_NO_EXCEPTIONS
/// The exception of a model that cannot be bound or run.
class Failure : public std::runtime_error {
public:
    Failure(const egret_info &info, Error error) : std::runtime_error(words(info, error)), error_(error) {}
    Error error() const noexcept { return error_; }

private:
    static std::string words(const egret_info &info, Error error) {
        std::string out = std::string(info.name) + ": ";
        const int code = error.code();
        const auto index = static_cast<std::uint32_t>(error.index());
        if (code == EGRET_E_INDEX && index < info.n_kernels) {
            out += std::string("kernel ") + info.kernels[index] + ": ";
            if (info.nodes[index] != nullptr) out += std::string(info.nodes[index]) + ": ";
        } else if (const char *condition = egret_condition(&info, error.value())) {
            return out + condition;
        } else if (code == EGRET_E_SIZES || code == EGRET_E_CPU || code == EGRET_E_WEIGHTS || code == EGRET_E_UNBOUND || code == EGRET_E_ARENA) {
            // About the model, not about a tensor.
        } else if (index < info.n_inputs) {
            out += std::string("input ") + info.inputs[index].name + ": ";
        } else if (index < info.n_inputs + info.n_outputs) {
            out += std::string("output ") + info.outputs[index - info.n_inputs].name + ": ";
        }
        return out + error.what();
    }
    Error error_;
};
#endif

/// As many elements as the free dims of a model make them.
inline constexpr std::size_t any_size = static_cast<std::size_t>(-1);

/// The elements of a tensor, which the caller owns: `N` of them, in row-major order. An array of another size does not compile;
/// of what says its size only at run time (a std::vector, a pointer with a number) a run refuses a wrong one.
template <class T, std::size_t N> class Span {
    template <class U> using fits = std::enable_if_t<std::is_convertible_v<U (*)[], T (*)[]>>;

public:
    static constexpr std::size_t extent = N;
    constexpr Span() noexcept = default;
    constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class U, std::size_t M, class = fits<U>> constexpr Span(U (&array)[M]) noexcept : data_(array), size_(M) {
        static_assert(M == N || N == any_size, "the array has not the size of the model's tensor");
    }
    template <class U, std::size_t M, class = fits<U>> constexpr Span(std::array<U, M> &array) noexcept : data_(array.data()), size_(M) {
        static_assert(M == N || N == any_size, "the array has not the size of the model's tensor");
    }
    template <class U, std::size_t M, class = fits<const U>>
    constexpr Span(const std::array<U, M> &array) noexcept : data_(array.data()), size_(M) {
        static_assert(M == N || N == any_size, "the array has not the size of the model's tensor");
    }
    template <class C, class P = decltype(std::declval<C &>().data()), class = decltype(std::declval<C &>().size()),
              class = fits<std::remove_pointer_t<P>>>
    constexpr Span(C &container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Memory for one run at a time, aligned as the C header asks.
template <std::size_t Bytes> class Arena {
public:
#ifndef EGRET_NO_EXCEPTIONS
    Arena() : data_(::operator new(room, align)) {}
#endif
    /// `false` where there is no memory; a run refuses such an arena.
    explicit Arena(std::nothrow_t) noexcept : data_(::operator new(room, align, std::nothrow)) {}
    Arena(Arena &&other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Arena &operator=(Arena &&other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;
    ~Arena() { ::operator delete(data_, align); }

    explicit operator bool() const noexcept { return data_ != nullptr; }
    void *data() const noexcept { return data_; }
    static constexpr std::size_t size() noexcept { return Bytes; }
    /// After EGRET_E_INDEX: the number in the data that is out of range.
    const egret_bad_index &bad_index() const noexcept { return *static_cast<const egret_bad_index *>(data_); }

private:
    static constexpr std::size_t room = Bytes < EGRET_ARENA_ALIGN ? EGRET_ARENA_ALIGN : Bytes;
    static constexpr std::align_val_t align{EGRET_ARENA_ALIGN};
    void *data_;
};

/// Memory for one run at a time of a model with free dims: a run makes it as large as it needs.
class GrowingArena {
public:
    GrowingArena() noexcept = default;
    explicit GrowingArena(std::nothrow_t) noexcept {}
    GrowingArena(GrowingArena &&other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    GrowingArena &operator=(GrowingArena &&other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    GrowingArena(const GrowingArena &) = delete;
    GrowingArena &operator=(const GrowingArena &) = delete;
    ~GrowingArena() { ::operator delete(data_, align); }

    /// Room for so many bytes; `false` where there is no memory.
    bool reserve(std::uint64_t bytes) noexcept {
        if (data_ != nullptr && bytes <= size_) return true;
        if (bytes > any_size / 2) return false;
        const std::size_t room = bytes < EGRET_ARENA_ALIGN ? EGRET_ARENA_ALIGN : static_cast<std::size_t>(bytes);
        void *more = ::operator new(room, align, std::nothrow);
        if (more == nullptr) return false;
        ::operator delete(data_, align);
        data_ = more;
        size_ = room;
        return true;
    }
    void *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    /// After EGRET_E_INDEX: the number in the data that is out of range.
    const egret_bad_index &bad_index() const noexcept { return *static_cast<const egret_bad_index *>(data_); }

private:
    static constexpr std::align_val_t align{EGRET_ARENA_ALIGN};
    void *data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {
/// A tensor of the C ABI; one without elements may have any address.
template <class T, std::size_t N> egret_tensor tensor(Span<T, N> span, const egret_port &port, const std::int64_t *dims) noexcept {
    alignas(16) static unsigned char nothing[16];
    void *data = const_cast<std::remove_const_t<T> *>(span.data());
    const bool empty = N == any_size ? span.size() == 0 : N == 0;
    return {empty && data == nullptr ? nothing : data, dims, port.rank, port.dtype};
}

/// Whether a span has as many elements as such dims make; none has more than memory.
template <class T, std::size_t N, std::size_t Rank> bool holds(Span<T, N> span, const std::int64_t (&dims)[Rank]) noexcept {
    std::uint64_t elements = 1;
    for (const std::int64_t dim : dims) {
        if (dim < 0) return false;
        const auto n = static_cast<std::uint64_t>(dim);
        if (n != 0 && elements > UINT64_MAX / n) return false;
        elements *= n;
    }
    return elements == span.size();
}
} // namespace detail

} // namespace egret

#endif

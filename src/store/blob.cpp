// Writing a blob: a locked temporary file, hashed on the way, renamed to its digest at the end. The
// lock tells sweep() in other processes that somebody is still at work; it ends with the process,
// however that ends.
#include "store/blob.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "store/folders.h"

namespace fs = std::filesystem;

namespace ponder::store {

BlobWriter::BlobWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
BlobWriter::BlobWriter(BlobWriter&&) noexcept = default;
BlobWriter& BlobWriter::operator=(BlobWriter&&) noexcept = default;
BlobWriter::~BlobWriter() = default;

BlobWriter::State::~State() {
  if (file != nullptr) std::fclose(file);
  std::error_code ignored;
  if (!committed) fs::remove(path, ignored);
}

Result<void> BlobWriter::write(std::string_view piece) {
  return write(std::span(reinterpret_cast<const uint8_t*>(piece.data()), piece.size()));
}

Result<void> BlobWriter::write(std::span<const uint8_t> piece) {
  if (state_->file == nullptr) return Error{ErrorCode::internal, "a blob was written to after its digest was taken"};
  if (!piece.empty() && std::fwrite(piece.data(), 1, piece.size(), state_->file) != piece.size())
    return Error{errno == ENOSPC ? ErrorCode::out_of_memory : ErrorCode::io,
                 "cannot write " + state_->path + ": " + std::strerror(errno)};
  state_->hash.update(piece);
  state_->size += piece.size();
  return {};
}

uint64_t BlobWriter::size() const { return state_->size; }

const std::string& BlobWriter::path() const { return state_->path; }

Result<Digest> BlobWriter::digest() {
  if (state_->digest) return *state_->digest;
  if (std::fclose(std::exchange(state_->file, nullptr)) != 0)
    return Error{errno == ENOSPC ? ErrorCode::out_of_memory : ErrorCode::io,
                 "cannot write " + state_->path + ": " + std::strerror(errno)};
  state_->digest = state_->hash.finish();
  return *state_->digest;
}

Result<Digest> BlobWriter::commit(const Digest* expected) {
  PONDER_TRY(const Digest digest, this->digest());
  if (expected != nullptr && digest != *expected)
    return Error{ErrorCode::invalid_argument,
                 "digest mismatch: the content is " + digest.to_string() + ", not " + expected->to_string()};
  if (state_->committed) return digest;
  PONDER_CHECK_OK(os::commit_file(state_->path, blob_path_in(state_->root, digest)));
  state_->committed = true;
  return digest;
}

Result<BlobWriter> Store::new_blob() {
  // Under the store's lock, so that sweep() cannot see the file before it is locked.
  PONDER_TRY(const os::FileLock lock, state_->lock());
  return new_blob_locked(*state_);
}

Result<BlobWriter> Store::new_blob_locked(State& store) {
  auto state = std::make_unique<BlobWriter::State>();
  state->root = store.root();
  state->path = store.root() + "/tmp/" + temporary_name();
  PONDER_TRY(os::FileLock held, os::FileLock::acquire(state->path, false));
  state->lock.emplace(std::move(held));
  state->file = std::fopen(state->path.c_str(), "wb");
  if (state->file == nullptr) return Error{ErrorCode::io, "cannot open " + state->path + ": " + std::strerror(errno)};
  std::setvbuf(state->file, nullptr, _IOFBF, size_t(1) << 18);
  return BlobWriter(std::move(state));
}

}  // namespace ponder::store
